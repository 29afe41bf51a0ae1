//! The binary `coalition`, run as a process of its own.
