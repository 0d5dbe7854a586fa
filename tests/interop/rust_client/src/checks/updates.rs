//! UPDATE on one connection, its notification on another, in two rounds: a subscriber without a
//! summary, and one with. The content of each notification is verified, its kind only reported.

use std::time::Instant;

use anyhow::{bail, ensure, Result};
use freenet_stdlib::prelude::{blake3, State, StateDelta, StateSummary, UpdateData};
use serde_json::{json, Value};

use crate::cli::Target;
use crate::payload::{contract, random_bytes};
use crate::session::Session;

const SMALL_BYTES: usize = 100;
const LARGE_BYTES: usize = 1 << 20;

pub async fn run(target: &Target) -> Result<Value> {
    let without_summary = round(target, "plain", None).await?;
    let with_summary = round(target, "summary", Some(StateSummary::from(vec![0; 32]))).await?;
    Ok(json!({"command": "update-subscribe", "without_summary": without_summary, "with_summary": with_summary}))
}

async fn round(target: &Target, label: &str, summary: Option<StateSummary<'static>>) -> Result<Vec<Value>> {
    let contract = contract(target.seed, &format!("update/{label}"));
    let id = *contract.id();
    let mut state = random_bytes(target.seed, SMALL_BYTES);
    let mut writer = Session::connect(target).await?;
    let mut subscriber = Session::connect(target).await?;
    writer.put(&contract, state.clone().into()).await?;
    subscriber.subscribe(id, summary).await?;

    let mut results = Vec::new();
    let kinds = ["State", "Delta", "StateAndDelta"];
    let steps = kinds.iter().flat_map(|kind| [(kind, SMALL_BYTES), (kind, LARGE_BYTES)]);
    for (step, (kind, size)) in (1_u64..).zip(steps) {
        let replacement = random_bytes(target.seed + 2 * step, size);
        let delta = random_bytes(target.seed + 2 * step + 1, size);
        let (update, appended) = match *kind {
            "State" => {
                state = replacement.clone();
                (UpdateData::State(State::from(replacement)), Vec::new())
            }
            "Delta" => (UpdateData::Delta(StateDelta::from(delta.clone())), delta.clone()),
            _ => {
                state = replacement.clone();
                let both = UpdateData::StateAndDelta {
                    state: State::from(replacement),
                    delta: StateDelta::from(delta.clone()),
                };
                (both, delta.clone())
            }
        };
        state.extend_from_slice(&appended);

        let started = Instant::now();
        let answering = writer.update(contract.key(), update);
        let (summary, notification) = tokio::try_join!(answering, subscriber.recv_notification(&id))?;
        let seconds = started.elapsed().as_secs_f64();
        let notified_with = verify(&notification, &state, &delta)?;
        results.push(json!({
            "update": kind,
            "update_bytes": size,
            "state_bytes": state.len(),
            "notified_with": notified_with,
            "summary_is_blake3_of_state": summary == blake3::hash(&state).as_bytes(),
            "seconds": seconds,
        }));
    }
    let stored = writer.get(id).await?;
    ensure!(stored.as_ref() == state, "the stored state is not what the updates amount to");
    Ok(results)
}

fn verify(notification: &UpdateData<'_>, state: &[u8], delta: &[u8]) -> Result<&'static str> {
    match notification {
        UpdateData::State(notified) => {
            ensure!(notified.as_ref() == state, "the notified State is not the new state");
            Ok("State")
        }
        UpdateData::Delta(notified) => {
            ensure!(notified.as_ref() == delta, "the notified Delta is not the one that was sent");
            Ok("Delta")
        }
        other => bail!("notified with {other:?}"),
    }
}
