//! RFC 6455 framing and the few bytes of the native encoding that tell responses apart. No I/O.

use anyhow::{bail, Result};
use freenet_stdlib::client_api::streaming::{chunk_request, CHUNK_THRESHOLD};
use freenet_stdlib::client_api::ClientRequest;
use freenet_stdlib::prelude::bincode;

pub const CONTINUATION: u8 = 0;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

/// Any key that changes every byte will do: the frames are built in advance and never leave the machine.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Bytes of a response that `Prefix::parse` wants to see: three or four u32.
pub const PREFIX_BYTES: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub fin: bool,
    pub opcode: u8,
    /// Bytes of the header itself.
    pub header_bytes: usize,
    pub payload_bytes: usize,
}

/// The header at the start of `input`, or None while it is incomplete.
pub fn parse_header(input: &[u8]) -> Result<Option<FrameHeader>> {
    let [first, second, rest @ ..] = input else { return Ok(None) };
    if second & 0x80 != 0 {
        bail!("the node masked a frame");
    }
    let (header_bytes, payload_bytes) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (4, usize::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (10, usize::try_from(u64::from_be_bytes(*length))?),
            None => return Ok(None),
        },
        length => (2, usize::from(length)),
    };
    Ok(Some(FrameHeader { fin: first & 0x80 != 0, opcode: first & 0x0f, header_bytes, payload_bytes }))
}

/// Appends one final, masked frame to `output`.
pub fn append_frame(output: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    output.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => output.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            output.push(0x80 | 126);
            output.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            output.push(0x80 | 127);
            output.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    output.extend_from_slice(&MASK);
    output.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// All frames of one request, chunked as the crate's own client chunks it.
pub fn request_frames(request: &ClientRequest<'static>, stream_id: u32) -> Result<Vec<u8>> {
    let message = bincode::serialize(request)?;
    let mut frames = Vec::with_capacity(message.len() + message.len() / 1000 + 64);
    if message.len() > CHUNK_THRESHOLD {
        for chunk in chunk_request(message, stream_id) {
            append_frame(&mut frames, BINARY, &bincode::serialize(&chunk)?);
        }
    } else {
        append_frame(&mut frames, BINARY, &message);
    }
    Ok(frames)
}

/// What the first bytes of a response say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    GetResponse,
    PutResponse,
    StreamChunk { stream_id: u32, last: bool },
    StreamHeader,
    Other,
}

impl Prefix {
    pub fn parse(payload: &[u8]) -> Self {
        let word = |index: usize| {
            let bytes = payload.get(4 * index..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        };
        match (word(0), word(1), word(2), word(3), word(4)) {
            (Some(0), Some(0), Some(0), ..) => Self::GetResponse,
            (Some(0), Some(0), Some(1), ..) => Self::PutResponse,
            (Some(0), Some(4), Some(stream_id), Some(index), Some(total)) => {
                Self::StreamChunk { stream_id, last: index + 1 == total }
            }
            (Some(0), Some(5), ..) => Self::StreamHeader,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_parsed_only_when_it_is_complete() {
        let mut frame = Vec::new();
        append_frame(&mut frame, BINARY, &[7; 70_000]);
        frame[1] &= 0x7f; // as a server sends it
        for cut in 0..10 {
            assert_eq!(parse_header(&frame[..cut]).unwrap(), None);
        }
        let expected = FrameHeader { fin: true, opcode: BINARY, header_bytes: 10, payload_bytes: 70_000 };
        assert_eq!(parse_header(&frame).unwrap(), Some(expected));
    }

    #[test]
    fn a_masked_frame_from_the_node_is_an_error() {
        let mut frame = Vec::new();
        append_frame(&mut frame, BINARY, b"x");
        assert!(parse_header(&frame).is_err());
    }
}
