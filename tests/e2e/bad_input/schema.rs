//! What the protos say about an RPC: its request, and the reasons it is documented to answer with.
//!
//! Requests come from the descriptor set; the reasons from the comments above each RPC in the proto
//! files (`Declined:` and `Errors:`), which the descriptor set leaves out.

use std::collections::{BTreeMap, BTreeSet};

use coalition_proto::FILE_DESCRIPTOR_SET;
use coalition_proto::common::ErrorReason;
use coalition_proto::policy::{self, Policy};
use coalition_tests::process::workspace;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

/// All RPCs of the network.
pub(super) struct Schema {
    pub(super) pool: DescriptorPool,
    documented: BTreeMap<String, BTreeSet<ErrorReason>>,
}

impl Schema {
    pub(super) fn read() -> Self {
        Self {
            pool: DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set is one"),
            documented: documented(),
        }
    }

    /// The request of the RPC with this path.
    pub(super) fn request(&self, path: &str) -> MessageDescriptor {
        let services = self.pool.services();
        let mut methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
        let found = methods.find(|method| {
            format!("/{}/{}", method.parent_service().full_name(), method.name()) == path
        });
        found.unwrap_or_else(|| panic!("no RPC {path}")).input()
    }

    /// Whether the RPC may answer with this reason, as its documentation has it.
    pub(super) fn documents(&self, path: &str, reason: ErrorReason) -> bool {
        let reasons = &self.documented[path];
        // Absence and denial read the same across partners.
        reason == ErrorReason::InvalidArgument
            || reasons.contains(&reason)
            || reason == ErrorReason::PermissionDenied && reasons.contains(&ErrorReason::NotFound)
    }
}

/// The policy of the RPC of this name, `EarnService/Earn`.
pub(super) fn policy_of(name: &str) -> &'static Policy {
    let found = policy::all()
        .iter()
        .find(|policy| policy.method.ends_with(&format!(".{name}")));
    found.unwrap_or_else(|| panic!("no RPC {name}"))
}

/// The oneof a field is in, unless that only stands for `optional`.
pub(super) fn real_oneof(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field
        .containing_oneof()
        .filter(|oneof| !oneof.is_synthetic())
}

/// Whether the field holds a message of ours, with fields to look at.
pub(super) fn inner(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) if !message.full_name().starts_with("google.") => Some(message),
        _ => None,
    }
}

/// Paths of all fields that a message can hold, at every depth, items without their number.
pub(super) fn paths(message: &MessageDescriptor, prefix: &str, found: &mut BTreeSet<String>) {
    for field in message.fields() {
        let path = format!("{prefix}{}", field.name());
        if let Some(inner) = inner(&field) {
            paths(&inner, &format!("{path}."), found);
        }
        found.insert(path);
    }
}

fn documented() -> BTreeMap<String, BTreeSet<ErrorReason>> {
    let mut found = BTreeMap::new();
    for policy in policy::all() {
        let service = policy.method.trim_start_matches('/');
        let (service, method) = service.split_once('/').expect("a path");
        let (package, _) = service.rsplit_once('.').expect("a package");
        let folder = workspace().join("proto").join(package.replace('.', "/"));
        let name = package.split('.').nth(1).expect("a package of ours");
        let text = std::fs::read_to_string(folder.join(format!("{name}.proto")));
        let text = text.unwrap_or_else(|error| panic!("{name}.proto: {error}"));
        found.insert(policy.method.to_owned(), reasons_above(&text, method));
    }
    found
}

fn reasons_above(proto: &str, method: &str) -> BTreeSet<ErrorReason> {
    let mut comment = String::new();
    for line in proto.lines() {
        let line = line.trim();
        if let Some(more) = line.strip_prefix("//") {
            comment.push_str(more);
        } else if line.starts_with(&format!("rpc {method}(")) {
            break;
        } else {
            comment.clear();
        }
    }
    let listed = ["Declined:", "Errors:"]
        .iter()
        .filter_map(|word| comment.split_once(word))
        .map(|(_, list)| list);
    listed
        .flat_map(|list| list.split(|letter: char| !letter.is_ascii_uppercase() && letter != '_'))
        .filter_map(ErrorReason::from_reason)
        .collect()
}
