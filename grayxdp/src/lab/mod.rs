//! A lab of network namespaces with real servers, for the demo and the tests.
