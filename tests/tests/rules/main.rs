//! The rules of the exception scheme: no history goes wrong, each rule that is left out makes one go wrong, and the program
//! in the kernel does as the model says.

mod model;
mod program;
