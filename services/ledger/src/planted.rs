//! A bug that tests switch on to see that they find it: no build but theirs has this module.

use std::cell::Cell;

thread_local! {
    static FORGETS_HEADROOM: Cell<bool> = const { Cell::new(false) };
}

/// On this thread, whether a charge forgets to lower the headroom that the next command of its
/// batch sees.
pub fn forget_headroom(forgets: bool) {
    FORGETS_HEADROOM.set(forgets);
}

pub(crate) fn forgets_headroom() -> bool {
    FORGETS_HEADROOM.get()
}
