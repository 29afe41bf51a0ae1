//! The public gRPC interface of a coalition network.
//!
//! One module per proto package with its messages, client and server; [`policy`] says who may call
//! what, [`validate`] checks the rules that stand on the fields. Everything here is generated from `coalition/<package>/v1/*.proto`, which are the place to read what a
//! field means. Nothing here opens a socket or knows the books.

pub mod policy;
pub mod validate;

#[expect(
    unreachable_pub,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::default_trait_access,
    clippy::must_use_candidate,
    clippy::struct_excessive_bools,
    reason = "generated code: its documentation is that of the protos"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

/// Who may call what, as declared in the protos. For the table by method see [`policy`].
pub mod access {
    pub use crate::generated::coalition::access::v1::*;
}

/// What the services share: money, points, points of sale, the books, reasons of errors.
pub mod common {
    pub use crate::generated::coalition::common::v1::*;
}

/// Points for purchases.
pub mod earn {
    pub use crate::generated::coalition::earn::v1::*;
}

/// Paying with points.
pub mod redeem {
    pub use crate::generated::coalition::redeem::v1::*;
}

/// Windows, positions, settlements and funds.
pub mod settlement {
    pub use crate::generated::coalition::settlement::v1::*;
}

/// Partners and their agreements.
pub mod partner {
    pub use crate::generated::coalition::partner::v1::*;
}

/// Members.
pub mod member {
    pub use crate::generated::coalition::member::v1::*;
}

/// The clock of a sandbox network.
pub mod sandbox {
    pub use crate::generated::coalition::sandbox::v1::*;
}

/// All protos of this crate and what they import, as an encoded `google.protobuf.FileDescriptorSet`,
/// options included and comments left out; for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

impl common::ErrorReason {
    /// The name as it stands in `ErrorInfo.reason`, for example `INSUFFICIENT_POINTS`.
    #[must_use]
    pub fn as_reason(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }

    /// The reason with this name in `ErrorInfo.reason`. `None` for a name that is not one of ours, and
    /// for `UNSPECIFIED`.
    #[must_use]
    pub fn from_reason(name: &str) -> Option<Self> {
        Self::from_str_name(&format!("ERROR_REASON_{name}"))
            .filter(|reason| *reason != Self::Unspecified)
    }
}
