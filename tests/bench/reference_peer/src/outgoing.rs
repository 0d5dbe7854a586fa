//! Responses onto the socket: serialized whole, then cut by the crate's own function if the client
//! asked for that. If it did not, they go out in one frame, which the real client refuses over 16 MiB.

use anyhow::Result;
use freenet_stdlib::client_api::streaming::{chunk_response, CHUNK_THRESHOLD};
use freenet_stdlib::client_api::{ClientError, ContractResponse, HostResponse, StreamContent};
use freenet_stdlib::prelude::bincode;
use futures_util::SinkExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::WebSocketStream;

use crate::store::HostResult;

pub struct Outgoing {
    streaming: bool,
    next_stream_id: u32,
}

impl Outgoing {
    pub fn new(streaming: bool) -> Self {
        Self { streaming, next_stream_id: 0 }
    }

    pub async fn send(&mut self, socket: &mut WebSocketStream<TcpStream>, result: &HostResult) -> Result<()> {
        let message = bincode::serialize(result)?;
        if !self.streaming || message.len() <= CHUNK_THRESHOLD {
            socket.send(Message::Binary(message.into())).await?;
            return Ok(());
        }
        let stream_id = self.next_stream_id;
        self.next_stream_id = stream_id.wrapping_add(1);
        if let Ok(HostResponse::ContractResponse(ContractResponse::GetResponse { key, contract, .. })) = result {
            let content = StreamContent::GetResponse { key: *key, includes_contract: contract.is_some() };
            let total_bytes = message.len() as u64;
            send_one(socket, HostResponse::StreamHeader { stream_id, total_bytes, content }).await?;
        }
        for chunk in chunk_response(message, stream_id) {
            send_one(socket, chunk).await?;
        }
        Ok(())
    }
}

async fn send_one(socket: &mut WebSocketStream<TcpStream>, response: HostResponse) -> Result<()> {
    let message = bincode::serialize(&Ok::<_, ClientError>(response))?;
    socket.send(Message::Binary(message.into())).await?;
    Ok(())
}
