//! The rules of the exception scheme: no history goes wrong, and each rule that is left out makes one go wrong.

mod model;
