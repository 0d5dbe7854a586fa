//! The crate's `WebApi` with a deadline on every wait. In: requests. Out: the response that was due,
//! or an error that says which one did not come.

use std::future::Future;
use std::time::Duration;

use anyhow::{anyhow, bail, ensure, Context, Result};
use freenet_stdlib::client_api::streaming::CHUNK_THRESHOLD;
use freenet_stdlib::client_api::{
    ClientError, ClientRequest, ContractRequest, ContractResponse, HostResponse, StreamContent, WebApi,
};
use freenet_stdlib::prelude::{
    bincode, ContractContainer, ContractInstanceId, ContractKey, StateSummary, UpdateData, WrappedState,
};
use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::{connect_async_with_config, MaybeTlsStream, WebSocketStream};

use crate::cli::Target;
use crate::payload::{get_request, put_request, GET_RESPONSE_OVERHEAD_BYTES};

/// What arrived by `recv_stream`, beside the state.
#[derive(Debug)]
pub struct StreamSeen {
    pub total_bytes: u64,
    pub chunks: usize,
}

pub struct Session {
    api: WebApi,
    wait: Duration,
}

/// Awaits `future` for at most `wait`; `what` completes "no … within".
pub async fn within<T>(wait: Duration, what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(wait, future).await.map_err(|_| anyhow!("no {what} within {} s", wait.as_secs()))
}

/// A WebSocket with the library's default limits, which are the real client's.
pub async fn open_websocket(target: &Target) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
    let opening = connect_async_with_config(&target.url, None, !target.nagle);
    let (socket, _) = within(target.wait(), "WebSocket handshake", opening)
        .await?
        .with_context(|| format!("connecting to {}", target.url))?;
    Ok(socket)
}

/// Whether a GetResponse with a state of so many bytes is sent in chunks to a client that asked for it.
pub fn is_chunked(state_bytes: usize) -> bool {
    state_bytes + GET_RESPONSE_OVERHEAD_BYTES > CHUNK_THRESHOLD
}

impl Session {
    pub async fn connect(target: &Target) -> Result<Self> {
        let api = WebApi::start(open_websocket(target).await?);
        Ok(Self { api, wait: target.wait() })
    }

    /// The client itself, to be split into its two halves.
    pub fn into_api(self) -> WebApi {
        self.api
    }

    pub async fn send(&mut self, request: ClientRequest<'static>) -> Result<()> {
        within(self.wait, "room for a request", self.api.send(request)).await??;
        Ok(())
    }

    /// The next response or the node's error, which is a result here.
    pub async fn recv(&mut self, what: &str) -> Result<std::result::Result<HostResponse, ClientError>> {
        within(self.wait, what, self.api.recv()).await
    }

    async fn recv_contract_response(&mut self, what: &str) -> Result<ContractResponse> {
        let response = self.recv(what).await?.with_context(|| format!("instead of {what}"))?;
        contract_response(response, what)
    }

    pub async fn put(&mut self, contract: &ContractContainer, state: WrappedState) -> Result<()> {
        self.send(put_request(contract, state)).await?;
        match self.recv_contract_response("PutResponse").await? {
            ContractResponse::PutResponse { key } => ensure_key(&key, contract.id()),
            other => bail!("instead of PutResponse: {other:?}"),
        }
    }

    /// GET by `recv`, which puts chunks together by itself.
    pub async fn get(&mut self, key: ContractInstanceId) -> Result<WrappedState> {
        self.send(get_request(key)).await?;
        state_of(self.recv_contract_response("GetResponse").await?, &key)
    }

    /// GET by `recv_stream`: fails by timeout if the node sends no StreamHeader.
    pub async fn get_streamed(&mut self, key: ContractInstanceId) -> Result<(WrappedState, StreamSeen)> {
        self.send(get_request(key)).await?;
        let handle = within(self.wait, "StreamHeader", self.api.recv_stream()).await??;
        let total_bytes = handle.total_bytes();
        match handle.content() {
            StreamContent::GetResponse { key: announced, includes_contract: false } => ensure_key(announced, &key)?,
            other => bail!("the StreamHeader announces {other:?}"),
        }
        let mut message = Vec::with_capacity(usize::try_from(total_bytes)?);
        let mut chunks = 0;
        let mut stream = handle.into_stream();
        while let Some(chunk) = within(self.wait, "chunk", stream.next()).await? {
            message.extend_from_slice(&chunk);
            chunks += 1;
        }
        ensure!(
            message.len() as u64 == total_bytes,
            "the StreamHeader promised {total_bytes} bytes, {} came",
            message.len()
        );
        let result: std::result::Result<HostResponse, ClientError> = bincode::deserialize(&message)?;
        let state = state_of(contract_response(result?, "GetResponse")?, &key)?;
        Ok((state, StreamSeen { total_bytes, chunks }))
    }

    pub async fn subscribe(&mut self, key: ContractInstanceId, summary: Option<StateSummary<'static>>) -> Result<()> {
        self.send(ContractRequest::Subscribe { key, summary }.into()).await?;
        match self.recv_contract_response("SubscribeResponse").await? {
            ContractResponse::SubscribeResponse { key: answered, subscribed: true } => ensure_key(&answered, &key),
            other => bail!("instead of SubscribeResponse with subscribed = true: {other:?}"),
        }
    }

    /// Returns the summary of the new state.
    pub async fn update(&mut self, key: ContractKey, data: UpdateData<'static>) -> Result<Vec<u8>> {
        self.send(ContractRequest::Update { key, data }.into()).await?;
        match self.recv_contract_response("UpdateResponse").await? {
            ContractResponse::UpdateResponse { key: answered, summary } => {
                ensure_key(&answered, key.id())?;
                Ok(summary.into_bytes())
            }
            other => bail!("instead of UpdateResponse: {other:?}"),
        }
    }

    pub async fn recv_notification(&mut self, key: &ContractInstanceId) -> Result<UpdateData<'static>> {
        match self.recv_contract_response("UpdateNotification").await? {
            ContractResponse::UpdateNotification { key: notified, update } => {
                ensure_key(&notified, key)?;
                Ok(update)
            }
            other => bail!("instead of UpdateNotification: {other:?}"),
        }
    }
}

pub fn contract_response(response: HostResponse, what: &str) -> Result<ContractResponse> {
    match response {
        HostResponse::ContractResponse(response) => Ok(response),
        other => bail!("instead of {what}: {other}"),
    }
}

fn state_of(response: ContractResponse, key: &ContractInstanceId) -> Result<WrappedState> {
    match response {
        ContractResponse::GetResponse { key: answered, state, .. } => {
            ensure_key(&answered, key)?;
            Ok(state)
        }
        ContractResponse::NotFound { instance_id } => bail!("contract {instance_id} was not found"),
        other => bail!("instead of GetResponse: {other:?}"),
    }
}

fn ensure_key(answered: &ContractKey, asked: &ContractInstanceId) -> Result<()> {
    ensure!(answered.id() == asked, "asked about contract {asked}, answered about {answered}");
    Ok(())
}
