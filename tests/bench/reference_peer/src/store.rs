//! Contracts, states and who is told of their changes. The rules are those of simnode's `replace`
//! runtime, so that both can be driven by the same clients.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use freenet_stdlib::client_api::{ClientError, ContractError, ContractResponse, ErrorKind, HostResponse, RequestError};
use freenet_stdlib::prelude::{
    blake3, ContractContainer, ContractInstanceId, ContractKey, State, StateDelta, StateSummary, UpdateData,
    WrappedState,
};
use tokio::sync::mpsc::UnboundedSender;

pub type HostResult = Result<HostResponse, ClientError>;

#[derive(Default)]
pub struct Store {
    contracts: Mutex<HashMap<ContractInstanceId, Contract>>,
    clients: AtomicU64,
}

struct Contract {
    container: ContractContainer,
    state: WrappedState,
    subscribers: HashMap<ClientId, Subscriber>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(u64);

struct Subscriber {
    notifications: UnboundedSender<HostResult>,
    /// It gave a summary, so a delta can be passed on as it is.
    takes_deltas: bool,
}

impl Store {
    pub fn new_client(&self) -> ClientId {
        ClientId(self.clients.fetch_add(1, Ordering::Relaxed))
    }

    pub fn put(&self, container: ContractContainer, state: WrappedState) -> HostResult {
        let key = container.key();
        let mut contracts = self.lock();
        if let Some(known) = contracts.get_mut(key.id()) {
            known.replace(key, state);
        } else {
            contracts.insert(*key.id(), Contract { container, state, subscribers: HashMap::new() });
        }
        Ok(ContractResponse::PutResponse { key }.into())
    }

    pub fn get(&self, id: ContractInstanceId, with_code: bool) -> HostResult {
        Ok(match self.lock().get(&id) {
            None => ContractResponse::NotFound { instance_id: id },
            Some(known) => ContractResponse::GetResponse {
                key: known.container.key(),
                contract: with_code.then(|| known.container.clone()),
                state: known.state.clone(),
            },
        }
        .into())
    }

    pub fn update(&self, key: ContractKey, data: UpdateData<'static>) -> HostResult {
        let mut contracts = self.lock();
        let Some(known) = contracts.get_mut(key.id()) else {
            return Err(refused(ContractError::Update { key, cause: "missing contract".into() }));
        };
        let key = known.container.key();
        match data {
            UpdateData::State(state) => known.replace(key, state.into_bytes().into()),
            UpdateData::Delta(delta) => known.append(key, delta),
            UpdateData::StateAndDelta { state, delta } => {
                let mut whole = state.into_bytes();
                whole.extend_from_slice(delta.as_ref());
                known.replace(key, whole.into());
            }
            _ => {
                let cause = "related contracts are not supported".into();
                return Err(refused(ContractError::Update { key, cause }));
            }
        }
        let summary = StateSummary::from(blake3::hash(known.state.as_ref()).as_bytes().to_vec());
        Ok(ContractResponse::UpdateResponse { key, summary }.into())
    }

    pub fn subscribe(
        &self,
        client: ClientId,
        id: ContractInstanceId,
        takes_deltas: bool,
        notifications: UnboundedSender<HostResult>,
    ) -> HostResult {
        match self.lock().get_mut(&id) {
            None => Err(refused(ContractError::MissingContract { key: id })),
            Some(known) => {
                known.subscribers.insert(client, Subscriber { notifications, takes_deltas });
                Ok(ContractResponse::SubscribeResponse { key: known.container.key(), subscribed: true }.into())
            }
        }
    }

    pub fn forget_client(&self, client: ClientId) {
        for known in self.lock().values_mut() {
            known.subscribers.remove(&client);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContractInstanceId, Contract>> {
        self.contracts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contract {
    fn replace(&mut self, key: ContractKey, state: WrappedState) {
        if self.state != state {
            self.state = state;
            self.notify(key, None);
        }
    }

    fn append(&mut self, key: ContractKey, delta: StateDelta<'static>) {
        if delta.size() > 0 {
            let mut whole = self.state.as_ref().to_vec();
            whole.extend_from_slice(delta.as_ref());
            self.state = whole.into();
            self.notify(key, Some(&delta));
        }
    }

    fn notify(&self, key: ContractKey, delta: Option<&StateDelta<'static>>) {
        for subscriber in self.subscribers.values() {
            let update = match delta {
                Some(delta) if subscriber.takes_deltas => UpdateData::Delta(delta.clone()),
                _ => UpdateData::State(State::from(self.state.as_ref().to_vec())),
            };
            // Its connection has just ended: it is about to be forgotten.
            let _ = subscriber.notifications.send(Ok(ContractResponse::UpdateNotification { key, update }.into()));
        }
    }
}

fn refused(error: ContractError) -> ClientError {
    ErrorKind::RequestError(RequestError::ContractError(error)).into()
}
