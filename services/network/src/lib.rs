//! The registry of partners, agreements and members.
