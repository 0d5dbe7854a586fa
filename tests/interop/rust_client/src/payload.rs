//! Contracts and states that can be made again from their seed alone.

use std::sync::Arc;

use freenet_stdlib::client_api::{ClientRequest, ContractRequest};
use freenet_stdlib::prelude::{
    ContractCode, ContractContainer, ContractInstanceId, ContractWasmAPIVersion, Parameters, RelatedContracts,
    WrappedContract, WrappedState,
};

/// Starts like a WASM module; no node that this program is meant for runs it.
const CODE: &[u8] = b"\0asm\x01\0\0\0 rust_client";

/// Bytes that a GetResponse without code takes beside the state: three tags, the key of twice 32
/// bytes, the absent contract, the state's length.
pub const GET_RESPONSE_OVERHEAD_BYTES: usize = 3 * 4 + 2 * 32 + 1 + 8;

/// A contract of its own for each `(seed, label)`.
pub fn contract(seed: u64, label: &str) -> ContractContainer {
    let parameters = Parameters::from(format!("{seed}/{label}").into_bytes());
    let code = Arc::new(ContractCode::from(CODE.to_vec()));
    ContractContainer::Wasm(ContractWasmAPIVersion::V1(WrappedContract::new(code, parameters)))
}

/// `length` incompressible bytes, the same for the same seed (SplitMix64).
pub fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut counter = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = counter;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn put_request(contract: &ContractContainer, state: WrappedState) -> ClientRequest<'static> {
    ContractRequest::Put {
        contract: contract.clone(),
        state,
        related_contracts: RelatedContracts::new(),
        subscribe: false,
        blocking_subscribe: false,
    }
    .into()
}

pub fn get_request(key: ContractInstanceId) -> ClientRequest<'static> {
    ContractRequest::Get { key, return_contract_code: false, subscribe: false, blocking_subscribe: false }.into()
}
