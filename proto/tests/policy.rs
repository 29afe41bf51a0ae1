//! The policy table says what the protos say, for every RPC.

use coalition_proto::policy::{self, QuotaClass, Role};
use coalition_proto::{FILE_DESCRIPTOR_SET, access};
use prost_reflect::DescriptorPool;

fn descriptors() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set is complete")
}

#[test]
fn every_rpc_of_the_descriptor_set_has_a_policy_and_no_other_has() {
    let mut paths: Vec<_> = descriptors()
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
        .collect();
    paths.sort();
    let table: Vec<_> = policy::all().iter().map(|policy| policy.method).collect();
    assert_eq!(table, paths);
    for path in &paths {
        assert_eq!(
            policy::lookup(path).map(|policy| policy.method),
            Some(path.as_str())
        );
    }
}

#[test]
fn what_is_no_rpc_of_ours_has_no_policy() {
    for path in [
        "",
        "/",
        "coalition.earn.v1.EarnService/Earn",
        "/coalition.earn.v1.EarnService/earn",
        "/coalition.earn.v1.EarnService/Earn/",
        "/coalition.earn.v1.EarnService",
        "/grpc.health.v1.Health/Check",
    ] {
        assert_eq!(policy::lookup(path), None, "{path}");
    }
}

#[test]
fn a_till_earns_and_redeems_and_does_not_touch_settlement() {
    let earn = policy::lookup("/coalition.earn.v1.EarnService/Earn").expect("Earn is there");
    assert_eq!(earn.roles, [Role::Pos, Role::OperatorMaker]);
    assert_eq!(
        (earn.scope, earn.quota, earn.public),
        ("earn:write", QuotaClass::Till, false)
    );
    for policy in policy::all() {
        let settles = policy.method.starts_with("/coalition.settlement.");
        assert!(
            !(settles && policy.roles.contains(&Role::Pos)),
            "{}",
            policy.method
        );
        assert!(!policy.public, "{}", policy.method);
    }
}

#[test]
fn those_who_only_read_call_nothing_that_writes() {
    for policy in policy::all()
        .iter()
        .filter(|policy| policy.scope.ends_with(":write"))
    {
        assert!(
            !policy.roles.contains(&Role::OperatorViewer),
            "{}",
            policy.method
        );
    }
}

#[test]
fn every_write_carries_a_request_id() {
    for service in descriptors().services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let policy = policy::lookup(&path).expect("every RPC has a policy");
            let writes = policy.scope.ends_with(":write");
            let names_itself = method
                .input()
                .get_field(1)
                .is_some_and(|field| field.name() == "request_id");
            assert_eq!(writes, names_itself, "{path}");
        }
    }
}

#[test]
fn roles_are_named_in_tokens_as_in_the_protos() {
    for role in Role::ALL {
        let proto_name = format!("ROLE_{}", role.as_str().to_uppercase());
        assert!(
            access::Role::from_str_name(&proto_name).is_some(),
            "{proto_name}"
        );
        assert_eq!(Role::from_claim(role.as_str()), Some(role));
        assert_eq!(role.to_string(), role.as_str());
    }
    assert!(access::Role::try_from(i32::try_from(Role::ALL.len()).expect("few") + 1).is_err());
    for name in ["", "POS", "ROLE_POS", "operator", "pos "] {
        assert_eq!(Role::from_claim(name), None, "{name}");
    }
}
