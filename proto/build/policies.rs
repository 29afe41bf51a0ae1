//! Reads the access policy of every RPC from the descriptors and writes the table that
//! `coalition_proto::policy` looks up.
//!
//! Part of the build script; a test includes this file too. What a policy means is said in
//! `coalition/access/v1/access.proto`.

use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};

/// Full name of the method option.
const OPTION: &str = "coalition.access.v1.access";

/// The policy of one RPC, as read.
#[derive(Debug)]
pub(crate) struct MethodPolicy {
    /// `/package.Service/Method`, as in an HTTP/2 path.
    pub(crate) path: String,
    /// Variant names of `policy::Role`, in the order of the option.
    pub(crate) roles: Vec<String>,
    /// The scope, `<area>:read` or `<area>:write`.
    pub(crate) scope: String,
    /// Variant name of `policy::QuotaClass`.
    pub(crate) quota: String,
    /// Callable without a token.
    pub(crate) public: bool,
}

/// Reads the policy of every RPC in `pool`, sorted by path.
///
/// # Errors
///
/// One line per RPC whose policy is missing or incomplete, with its name and its file.
pub(crate) fn read(pool: &DescriptorPool) -> Result<Vec<MethodPolicy>, String> {
    let mut policies = Vec::new();
    let mut problems = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            match read_method(pool, &method) {
                Ok(policy) => policies.push(policy),
                Err(problem) => problems.push(format!(
                    "{}: rpc {}: {problem}",
                    service.parent_file().name(),
                    method.full_name(),
                )),
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    policies.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(policies)
}

/// The table as Rust source: `static POLICIES`, sorted by path.
pub(crate) fn render(policies: &[MethodPolicy]) -> String {
    let mut source = format!("static POLICIES: [Policy; {}] = [\n", policies.len());
    for policy in policies {
        let roles: Vec<_> = policy
            .roles
            .iter()
            .map(|role| format!("Role::{role}"))
            .collect();
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            source,
            "    Policy {{ method: {:?}, roles: &[{}], scope: {:?}, quota: QuotaClass::{}, public: {} }},",
            policy.path,
            roles.join(", "),
            policy.scope,
            policy.quota,
            policy.public,
        );
    }
    source.push_str("];\n");
    source
}

fn read_method(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<MethodPolicy, String> {
    let extension = pool
        .get_extension_by_name(OPTION)
        .filter(|extension| method.options().has_extension(extension))
        .ok_or_else(|| format!("no access policy: set option ({OPTION})"))?;
    let options = method.options();
    let value = options.get_extension(&extension);
    let access = value
        .as_message()
        .ok_or_else(|| format!("option ({OPTION}) is not a message"))?;

    let public = field(access, "public").as_bool().unwrap_or_default();
    let roles = field(access, "roles")
        .as_list()
        .unwrap_or_default()
        .iter()
        .map(|role| variant(access, "roles", role, "ROLE_"))
        .collect::<Result<Vec<_>, _>>()?;
    if roles.is_empty() && !public {
        return Err("its access policy names no role and is not public".to_owned());
    }
    if (1..roles.len()).any(|at| roles[..at].contains(&roles[at])) {
        return Err("its access policy names a role twice".to_owned());
    }
    let scope = field(access, "scope")
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if !is_scope(&scope) {
        return Err(format!(
            "the scope of its access policy is {scope:?}; it must be <area>:read or <area>:write"
        ));
    }
    let quota = variant(access, "quota", &field(access, "quota"), "QUOTA_CLASS_")?;
    Ok(MethodPolicy {
        path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
        roles,
        scope,
        quota,
        public,
    })
}

fn field(message: &DynamicMessage, name: &str) -> Value {
    message
        .get_field_by_name(name)
        .map_or(Value::Bool(false), std::borrow::Cow::into_owned)
}

/// The Rust variant name of an enum value: `ROLE_PARTNER_ADMIN` → `PartnerAdmin`. Zero is refused.
fn variant(
    message: &DynamicMessage,
    name: &str,
    value: &Value,
    prefix: &str,
) -> Result<String, String> {
    let number = value.as_enum_number().unwrap_or_default();
    let descriptor = message.descriptor().get_field_by_name(name);
    let proto_name = descriptor
        .as_ref()
        .and_then(|field| field.kind().as_enum().cloned())
        .and_then(|kind| kind.get_value(number))
        .filter(|_| number != 0)
        .ok_or_else(|| format!("its access policy has no known value in {name}"))?
        .name()
        .to_owned();
    let words = proto_name.strip_prefix(prefix).unwrap_or(&proto_name);
    Ok(words
        .split('_')
        .map(|word| word[..1].to_owned() + &word[1..].to_ascii_lowercase())
        .collect())
}

fn is_scope(scope: &str) -> bool {
    scope.split_once(':').is_some_and(|(area, verb)| {
        !area.is_empty()
            && area.bytes().all(|byte| byte.is_ascii_lowercase())
            && matches!(verb, "read" | "write")
    })
}
