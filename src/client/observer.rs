use crate::Failure;

/// Hears how the requests of a client went, without their contents.
pub(crate) trait Observer {
    /// The head of an answer came. A 404 or 410 is not told here: what it means is in its body.
    fn answered(&self, status: u16);

    /// A request got no answer, or a 404 or 410.
    fn failed(&self, failure: &Failure);

    /// A connection that had been used before was found cut.
    fn was_cut(&self);
}
