//! What joins the parts: one owner of the data path, the journal and the engine.
