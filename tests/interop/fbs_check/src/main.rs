//! The reference's verdict on flatbuffers messages.
//!
//! Reads lines `request HEX` or `response HEX`, answers each with one line of JSON:
//! - a request is decoded as the node decodes it: `{"native": HEX}`, the bincode of what came out;
//! - a response passes the verifier (the crate has no decoder): `{"fields": [...]}`, the name of its
//!   table and the table's fields in the order of the schema, byte strings as hex;
//! - `{"error": TEXT}`: refused.

mod describe;

use std::io::{self, BufRead, Write};

use freenet_stdlib::{client_api::ClientRequest, prelude::bincode};
use serde_json::{json, Value};

/// The reference's generated tables, from its own source (see build.rs).
#[allow(dead_code, mismatched_lifetime_syntaxes, unused, clippy::all)]
mod generated {
    pub mod requests {
        include!(concat!(env!("GENERATED"), "/client_request_generated.rs"));
    }
    pub mod common {
        include!(concat!(env!("GENERATED"), "/common_generated.rs"));
    }
    pub mod responses {
        include!(concat!(env!("GENERATED"), "/host_response_generated.rs"));
    }
}
use generated::common as common_generated;

fn main() -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (direction, hex) = line.split_once(' ').unwrap_or((&line, ""));
        let verdict = match (direction, from_hex(hex)) {
            ("request", Some(message)) => request(&message),
            ("response", Some(message)) => describe::response(&message),
            _ => json!({"error": "not a line of `request HEX` or `response HEX`"}),
        };
        writeln!(stdout, "{verdict}")?;
    }
    Ok(())
}

fn request(message: &[u8]) -> Value {
    match ClientRequest::try_decode_fbs(message) {
        Ok(request) => json!({"native": to_hex(&bincode::serialize(&request).expect("a request serializes"))}),
        Err(error) => json!({"error": error.to_string()}),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
