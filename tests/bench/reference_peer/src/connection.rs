//! One client. Like the reference it does one thing at a time: it does not read while it writes.
//! The `subscribe` flags of PUT and GET are not honoured; SUBSCRIBE is.

use std::io::ErrorKind;
use std::sync::Arc;

use anyhow::Result;
use freenet_stdlib::client_api::streaming::ReassemblyBuffer;
use freenet_stdlib::client_api::{self, ClientError, ClientRequest, ContractRequest};
use freenet_stdlib::prelude::bincode;
use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{accept_hdr_async_with_config, WebSocketStream};

use crate::outgoing::Outgoing;
use crate::store::{ClientId, HostResult, Store};

/// The reference's limit of a message, here of a frame too, so that one large frame can be measured.
const MAX_MESSAGE_BYTES: usize = 100 << 20;

pub async fn serve(stream: TcpStream, store: Arc<Store>) -> Result<()> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).max_frame_size(Some(MAX_MESSAGE_BYTES));
    let mut streaming = false;
    #[expect(clippy::result_large_err, reason = "tungstenite dictates the type")]
    let judge = |request: &Request, response| judge_handshake(request, response, &mut streaming);
    let mut socket = accept_hdr_async_with_config(stream, judge, Some(config)).await?;
    let client = Client { id: store.new_client(), store };
    let served = client.serve(&mut socket, Outgoing::new(streaming)).await;
    client.store.forget_client(client.id);
    match served {
        Err(error) if is_hangup(&error) => Ok(()),
        other => other,
    }
}

/// Clients that end without a close frame are the rule, not an error.
fn is_hangup(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<Error>() {
        Some(Error::Io(io)) => matches!(io.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        Some(Error::ConnectionClosed | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => true,
        _ => false,
    }
}

#[expect(clippy::result_large_err, reason = "tungstenite dictates the type")]
fn judge_handshake(
    request: &Request,
    response: Response,
    streaming: &mut bool,
) -> std::result::Result<Response, ErrorResponse> {
    let refuse = |status: StatusCode, why: &str| {
        let mut answer = ErrorResponse::new(Some(why.to_owned()));
        *answer.status_mut() = status;
        answer
    };
    if !matches!(request.uri().path(), "/v1/contract/command" | "/v2/contract/command") {
        return Err(refuse(StatusCode::NOT_FOUND, "no such path"));
    }
    let mut native = false;
    for parameter in request.uri().query().unwrap_or_default().split('&') {
        match parameter {
            "encodingProtocol=native" => native = true,
            "streaming=true" => *streaming = true,
            _ => {}
        }
    }
    if native {
        Ok(response)
    } else {
        Err(refuse(StatusCode::BAD_REQUEST, "this server speaks encodingProtocol=native only"))
    }
}

struct Client {
    id: ClientId,
    store: Arc<Store>,
}

impl Client {
    async fn serve(&self, socket: &mut WebSocketStream<TcpStream>, mut outgoing: Outgoing) -> Result<()> {
        let (notify, mut notifications) = mpsc::unbounded_channel();
        let mut reassembly = ReassemblyBuffer::new();
        loop {
            tokio::select! {
                Some(notification) = notifications.recv() => outgoing.send(socket, &notification).await?,
                message = socket.next() => {
                    let bytes = match message {
                        None | Some(Ok(Message::Close(_))) => return Ok(()),
                        Some(Ok(Message::Binary(bytes))) => bytes,
                        Some(Ok(Message::Text(text))) => text.into(),
                        Some(Ok(_)) => continue,
                        Some(Err(error)) => return Err(error.into()),
                    };
                    match self.receive(&bytes, &mut reassembly, &notify) {
                        Outcome::Incomplete => {}
                        Outcome::Reply(result) => {
                            // An update that this client subscribes to is notified before it is answered.
                            while let Ok(notification) = notifications.try_recv() {
                                outgoing.send(socket, &notification).await?;
                            }
                            outgoing.send(socket, &result).await?;
                        }
                        Outcome::Close => {
                            socket.close(None).await?;
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    fn receive(
        &self,
        message: &[u8],
        reassembly: &mut ReassemblyBuffer,
        notify: &UnboundedSender<HostResult>,
    ) -> Outcome {
        let request: ClientRequest<'_> = match bincode::deserialize(message) {
            Ok(request) => request,
            Err(error) => return undecodable(&error),
        };
        let ClientRequest::StreamChunk { stream_id, index, total, data } = request else {
            return self.answer(request.into_owned(), notify);
        };
        match reassembly.receive_chunk(stream_id, index, total, data) {
            Ok(None) => Outcome::Incomplete,
            Ok(Some(whole)) => match bincode::deserialize::<ClientRequest<'_>>(&whole) {
                Ok(request) => self.answer(request.into_owned(), notify),
                Err(error) => undecodable(&error),
            },
            Err(error) => Outcome::Reply(Err(ClientError::from(format!("stream reassembly error: {error}")))),
        }
    }

    fn answer(&self, request: ClientRequest<'static>, notify: &UnboundedSender<HostResult>) -> Outcome {
        let ClientRequest::ContractOp(operation) = request else {
            return match request {
                ClientRequest::Close | ClientRequest::Disconnect { .. } => Outcome::Close,
                _ => Outcome::Reply(Err(ClientError::from("only contract operations are served here"))),
            };
        };
        Outcome::Reply(match operation {
            ContractRequest::Put { contract, state, .. } => self.store.put(contract, state),
            ContractRequest::Get { key, return_contract_code, .. } => self.store.get(key, return_contract_code),
            ContractRequest::Update { key, data } => self.store.update(key, data),
            ContractRequest::Subscribe { key, summary } => {
                self.store.subscribe(self.id, key, summary.is_some(), notify.clone())
            }
            _ => Err(ClientError::from("unknown contract operation")),
        })
    }
}

#[expect(clippy::large_enum_variant, reason = "one lives at a time, and never for long")]
enum Outcome {
    /// A chunk was taken; its message is not complete.
    Incomplete,
    Reply(HostResult),
    Close,
}

fn undecodable(error: &bincode::Error) -> Outcome {
    Outcome::Reply(Err(client_api::ErrorKind::DeserializationError { cause: error.to_string().into() }.into()))
}
