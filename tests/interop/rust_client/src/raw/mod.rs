//! A driver that is never the limit: a WebSocket client by hand over plain TCP. Frames are built and
//! masked before the clock starts; what arrives is parsed no further than the measurement needs.
//! `wire` knows the bytes, `socket` the blocking connection, the others measure.

pub mod fairness;
pub mod frame;
pub mod small;
mod socket;
pub mod stall;
pub mod transfer;
mod wire;
