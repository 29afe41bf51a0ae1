//! The build script refuses protos that would leave something open: an RPC without an access policy, a
//! field rule that nothing would check.
//!
//! Its parts are included here and run on small protos held in memory; `build.rs` fails with the text
//! they return.

use std::path::Path;

use prost_reflect::DescriptorPool;
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};

#[path = "../build/annotations.rs"]
mod annotations;
#[path = "../build/patterns.rs"]
mod patterns;
#[path = "../build/policies.rs"]
mod policies;
#[path = "../build/rules.rs"]
mod rules;

const FILE: &str = "coalition/gift/v1/gift.proto";

/// One file in memory, in front of those of this crate.
struct InMemory(String);

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == FILE {
            File::from_source(name, &self.0)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

/// Our protos and one more service, which has one RPC with the given body and one request field.
fn with_new_rpc(rpc_body: &str, request_body: &str) -> DescriptorPool {
    let mut resolver = ChainFileResolver::new();
    resolver.add(InMemory(format!(
        r#"
        syntax = "proto3";
        package coalition.gift.v1;
        import "buf/validate/validate.proto";
        import "coalition/access/v1/access.proto";
        import "coalition/earn/v1/earn.proto";
        import "coalition/common/v1/money.proto";
        service GiftService {{
          rpc Give(GiveRequest) returns (GiveResponse) {{ {rpc_body} }}
        }}
        message GiveRequest {{ {request_body} }}
        message GiveResponse {{}}
        "#
    )));
    resolver.add(IncludeFileResolver::new(
        Path::new(env!("CARGO_MANIFEST_DIR")).to_owned(),
    ));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler.open_file(FILE).expect("the proto compiles");
    compiler.descriptor_pool()
}

fn policy_problem(rpc_body: &str) -> String {
    policies::read(&with_new_rpc(rpc_body, "")).expect_err("the policy is refused")
}

fn rule_problem(request_body: &str) -> String {
    rules::generate(&with_new_rpc("", request_body)).expect_err("the rule is refused")
}

#[test]
fn an_rpc_without_an_access_policy_fails_the_build() {
    let problem = policy_problem("");
    assert_eq!(
        problem,
        "coalition/gift/v1/gift.proto: rpc coalition.gift.v1.GiftService.Give: \
         no access policy: set option (coalition.access.v1.access)"
    );
}

#[test]
fn an_incomplete_access_policy_fails_the_build() {
    for (policy, expected) in [
        (
            r#"scope: "gift:write" quota: QUOTA_CLASS_TILL"#,
            "names no role and is not public",
        ),
        (
            r#"roles: [] scope: "gift:write" quota: QUOTA_CLASS_TILL public: false"#,
            "names no role",
        ),
        (
            "roles: [ROLE_POS] quota: QUOTA_CLASS_TILL",
            "must be <area>:read or <area>:write",
        ),
        (
            r#"roles: [ROLE_POS] scope: "gift" quota: QUOTA_CLASS_TILL"#,
            "the scope",
        ),
        (
            r#"roles: [ROLE_POS] scope: "gift:all" quota: QUOTA_CLASS_TILL"#,
            "the scope",
        ),
        (
            r#"roles: [ROLE_POS] scope: "gift:write""#,
            "no known value in quota",
        ),
        (
            r#"roles: [ROLE_UNSPECIFIED] scope: "gift:read" quota: QUOTA_CLASS_TILL"#,
            "no known value in roles",
        ),
        (
            r#"roles: [ROLE_POS, ROLE_POS] scope: "gift:read" quota: QUOTA_CLASS_TILL"#,
            "twice",
        ),
    ] {
        let problem = policy_problem(&format!(
            "option (coalition.access.v1.access) = {{{policy}}};"
        ));
        assert!(
            problem.contains("gift.proto: rpc coalition.gift.v1.GiftService.Give: "),
            "{problem}"
        );
        assert!(problem.contains(expected), "{policy}: {problem}");
    }
}

#[test]
fn a_complete_access_policy_becomes_a_row_of_the_table() {
    for (policy, expected) in [
        (
            r#"roles: [ROLE_SUPPORT_AGENT, ROLE_POS] scope: "gift:write" quota: QUOTA_CLASS_TILL"#,
            r#"Policy { method: "/coalition.gift.v1.GiftService/Give", roles: &[Role::SupportAgent, Role::Pos], scope: "gift:write", quota: QuotaClass::Till, public: false },"#,
        ),
        (
            r#"scope: "gift:read" quota: QUOTA_CLASS_READ public: true"#,
            r#"Policy { method: "/coalition.gift.v1.GiftService/Give", roles: &[], scope: "gift:read", quota: QuotaClass::Read, public: true },"#,
        ),
    ] {
        let pool = with_new_rpc(
            &format!("option (coalition.access.v1.access) = {{{policy}}};"),
            "",
        );
        let table = policies::render(&policies::read(&pool).expect("the policies are complete"));
        assert!(table.contains(expected), "{table}");
    }
}

#[test]
fn a_field_rule_that_nothing_would_check_fails_the_build() {
    for (request, expected) in [
        (
            "string a = 1 [(buf.validate.field).string.email = true];",
            "rule string.email",
        ),
        (
            "string a = 1 [(buf.validate.field).string.min_len = 2];",
            "rule string.min_len",
        ),
        (
            "string a = 1 [(buf.validate.field).ignore = IGNORE_ALWAYS];",
            "rule ignore",
        ),
        (
            "string a = 1 [(buf.validate.field).int64.gt = 1];",
            "rules for int64 on a field of type string",
        ),
        (
            "int64 a = 1 [(buf.validate.field).int64.in = 1];",
            "rule int64.in",
        ),
        (
            "int64 a = 1 [(buf.validate.field).cel_expression = \"this > 1\"];",
            "cel is supported on messages only",
        ),
        (
            "bool a = 1 [(buf.validate.field).bool.const = true];",
            "rule bool",
        ),
        (
            "bytes a = 1 [(buf.validate.field).bytes.max_len = 4];",
            "fields of type bytes",
        ),
        ("double a = 1;", "fields of type double"),
        ("repeated string a = 1;", "needs repeated.max_items"),
        ("map<string, string> a = 1;", "maps are not supported"),
        (
            "GiveRequest a = 1;",
            "message coalition.gift.v1.GiveRequest holds itself",
        ),
        (
            "option (buf.validate.message).cel_expression = \"true\"; string a = 1;",
            "rules on whole messages",
        ),
        (
            "coalition.common.v1.Money a = 1 [(buf.validate.field).cel_expression = \"this.amount in [1]\"];",
            "cel expression \"this.amount in [1]\"",
        ),
        (
            "coalition.common.v1.Money a = 1 [(buf.validate.field).cel_expression = \"this.sum > 1\"];",
            "cel expression",
        ),
        (
            "coalition.common.v1.Money a = 1 [(buf.validate.field).cel = {id: \"a\" expression: \"this.amount > 1\"}];",
            "rule cel",
        ),
        (
            "string a = 1 [(buf.validate.field).string.pattern = \"(\"];",
            "pattern \"(\"",
        ),
    ] {
        let problem = rule_problem(request);
        assert!(problem.contains(expected), "{request}: {problem}");
    }
}

#[test]
fn an_unsupported_field_rule_is_named_with_its_field_and_file() {
    let problem = rule_problem("string a = 1 [(buf.validate.field).string.email = true];");
    assert_eq!(
        problem,
        "coalition/gift/v1/gift.proto: field coalition.gift.v1.GiveRequest.a: rule string.email is \
         not supported: see proto/build/rules.rs"
    );
}

#[test]
fn the_same_protos_give_the_same_code() {
    let write = || {
        let pool = with_new_rpc(
            "",
            "string a = 1 [(buf.validate.field).string.uuid = true];",
        );
        rules::generate(&pool).expect("the rules are supported")
    };
    assert_eq!(write(), write());
}
