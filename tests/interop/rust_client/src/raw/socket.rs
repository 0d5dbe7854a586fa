//! A blocking connection: handshake, prebuilt frames out, responses in. Pings are left unanswered,
//! as the real client leaves them while its program is elsewhere.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::{bail, ensure, Context, Result};
use freenet_stdlib::prelude::ContractContainer;
use tokio_tungstenite::tungstenite::http::Uri;

use super::wire::{
    append_frame, parse_header, request_frames, FrameHeader, Prefix, CLOSE, CONTINUATION, PING, PREFIX_BYTES,
};
use crate::cli::Target;
use crate::payload::{contract, put_request, random_bytes};

/// As much as one `read` may return; larger than what the kernel usually has ready.
const INPUT_BYTES: usize = 1 << 20;
/// The node's answer to the handshake is shorter.
const MAX_HANDSHAKE_BYTES: usize = 8192;

/// What is known of a whole message after it went by.
#[derive(Clone, Copy, Debug)]
pub struct MessageSeen {
    pub prefix: Prefix,
    pub payload_bytes: usize,
}

/// A message kept for decoding, or the code with which the node closed.
#[derive(Debug)]
pub enum Received {
    Message(Vec<u8>),
    Closed(Option<u16>),
}

pub struct RawSocket {
    stream: TcpStream,
    input: Vec<u8>,
    /// The part of `input` that was read and not yet parsed.
    start: usize,
    stop: usize,
}

impl RawSocket {
    pub fn connect(target: &Target) -> Result<Self> {
        let uri: Uri = target.url.parse().with_context(|| target.url.clone())?;
        let authority = uri.authority().context("the URL names no host")?.as_str();
        let path = uri.path_and_query().context("the URL has no path")?;
        let mut stream = TcpStream::connect(authority).with_context(|| format!("connecting to {authority}"))?;
        stream.set_nodelay(!target.nagle)?;
        stream.set_read_timeout(Some(target.wait()))?;
        stream.set_write_timeout(Some(target.wait()))?;
        // A fixed key and no look at the answering hash: this peer is no cache that might have replied by mistake.
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )?;
        let mut socket = Self { stream, input: vec![0; INPUT_BYTES], start: 0, stop: 0 };
        socket.read_handshake()?;
        Ok(socket)
    }

    fn read_handshake(&mut self) -> Result<()> {
        loop {
            let received = &self.input[..self.stop];
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                let answer = String::from_utf8_lossy(&received[..end]);
                let status = answer.lines().next().unwrap_or_default();
                ensure!(status.starts_with("HTTP/1.1 101 "), "the node refused the handshake: {status}");
                self.start = end + 4;
                return Ok(());
            }
            ensure!(self.stop < MAX_HANDSHAKE_BYTES, "the node's answer to the handshake has no end");
            self.fill()?;
        }
    }

    /// The socket alone, for a loop of its own; nothing must have been left unread.
    pub fn into_stream(self) -> Result<TcpStream> {
        ensure!(self.start == self.stop, "the node sent more than was asked for");
        Ok(self.stream)
    }

    pub fn write(&mut self, frames: &[u8]) -> Result<()> {
        self.stream.write_all(frames).context("writing to the node")
    }

    /// Whether the node has given this connection up: it takes a ping no more.
    pub fn is_closed(&mut self) -> Result<bool> {
        let mut ping = Vec::new();
        append_frame(&mut ping, PING, b"");
        match self.stream.write_all(&ping) {
            Ok(()) => Ok(false),
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(true),
            Err(error) => Err(error).context("writing to the node"),
        }
    }

    /// PUTs a state of `size` bytes under a contract of its own, returned, unless it fails.
    pub fn put(&mut self, seed: u64, label: &str, size: usize) -> Result<ContractContainer> {
        let contract = contract(seed, label);
        self.write(&request_frames(&put_request(&contract, random_bytes(seed, size).into()), 0)?)?;
        let seen = self.skip_message()?;
        ensure!(seen.prefix == Prefix::PutResponse, "instead of PutResponse: {:?}", seen.prefix);
        Ok(contract)
    }

    /// Lets one data message, fragmented or not, go by.
    pub fn skip_message(&mut self) -> Result<MessageSeen> {
        let mut prefix = [0; PREFIX_BYTES];
        let mut payload_bytes = 0;
        loop {
            let header = self.next_data_frame()?;
            let kept = if header.opcode == CONTINUATION { 0 } else { header.payload_bytes.min(PREFIX_BYTES) };
            self.read_exact(&mut prefix[..kept])?;
            self.skip(header.payload_bytes - kept)?;
            payload_bytes += header.payload_bytes;
            if header.fin {
                let prefix = Prefix::parse(&prefix[..payload_bytes.min(PREFIX_BYTES)]);
                return Ok(MessageSeen { prefix, payload_bytes });
            }
        }
    }

    /// One whole message, or the node's close.
    pub fn receive(&mut self) -> Result<Received> {
        let mut message = Vec::new();
        loop {
            let header = self.next_header()?;
            let mut payload = vec![0; header.payload_bytes];
            self.read_exact(&mut payload)?;
            match header.opcode {
                CLOSE => return Ok(Received::Closed(payload.first_chunk().map(|code| u16::from_be_bytes(*code)))),
                opcode if opcode > CLOSE => {}
                _ => {
                    message.append(&mut payload);
                    if header.fin {
                        return Ok(Received::Message(message));
                    }
                }
            }
        }
    }

    fn next_data_frame(&mut self) -> Result<FrameHeader> {
        loop {
            let header = self.next_header()?;
            match header.opcode {
                CLOSE => bail!("the node closed the connection"),
                opcode if opcode > CLOSE => self.skip(header.payload_bytes)?,
                _ => return Ok(header),
            }
        }
    }

    fn next_header(&mut self) -> Result<FrameHeader> {
        loop {
            if let Some(header) = parse_header(&self.input[self.start..self.stop])? {
                self.start += header.header_bytes;
                return Ok(header);
            }
            self.fill()?;
        }
    }

    fn read_exact(&mut self, mut output: &mut [u8]) -> Result<()> {
        while !output.is_empty() {
            if self.start == self.stop {
                self.fill()?;
            }
            let length = output.len().min(self.stop - self.start);
            output[..length].copy_from_slice(&self.input[self.start..self.start + length]);
            self.start += length;
            output = &mut output[length..];
        }
        Ok(())
    }

    fn skip(&mut self, mut length: usize) -> Result<()> {
        while length > self.stop - self.start {
            length -= self.stop - self.start;
            self.start = self.stop;
            self.fill()?;
        }
        self.start += length;
        Ok(())
    }

    /// Reads more behind what is not parsed yet, which is moved to the front if it is in the way.
    fn fill(&mut self) -> Result<()> {
        if self.start == self.stop {
            (self.start, self.stop) = (0, 0);
        } else if self.stop == self.input.len() {
            self.input.copy_within(self.start..self.stop, 0);
            (self.start, self.stop) = (0, self.stop - self.start);
        }
        let length = self.stream.read(&mut self.input[self.stop..]).context("waiting for the node")?;
        ensure!(length > 0, "the node hung up");
        self.stop += length;
        Ok(())
    }
}
