//! Numbers that stand for configured things in the kernel's tables. User space assigns them and keeps them stable.

/// A service, numbered from 1; 0 stands for "no service".
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u16);

/// A version of a service, unique over all services and numbered from 1; 0 stands for "no version".
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId(pub u16);

/// A backend of a version, unique over all versions and numbered from 1; 0 in a slot stands for "no backend".
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u16);

impl ServiceId {
    /// No service.
    pub const NONE: Self = Self(0);
}

impl VersionId {
    /// No version.
    pub const NONE: Self = Self(0);
}

impl BackendId {
    /// No backend: the slot of an empty pool.
    pub const NONE: Self = Self(0);
}
