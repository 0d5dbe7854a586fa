//! What must hold for a program on the reference's client, one check a file.

pub mod interleaved;
pub mod pipelined;
pub mod roundtrip;
pub mod unknown;
pub mod updates;
pub mod uploads;
