//! What is done now and then while a node runs: keys whose time is over are removed, idle clients are disconnected.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock;
use crate::commands::clients::state;
use crate::commands::instance::Instance;
use crate::commands::session::publish_events;
use crate::commands::stats::mean_share;
use crate::config::Name;
use crate::engine::expire::{self, Share};
use crate::lifecycle::Stop;

/// Between two rounds. Keys are gone at most this long after their time.
const ROUND: Duration = Duration::from_millis(50);
/// How much of a round may go to removing keys when very many are over at once.
const SWEEP_MAX: Duration = Duration::from_millis(12);

/// Does the chores until it is asked to stop.
pub(crate) fn run(instance: &Arc<Instance>, stop: &Stop) {
    loop {
        if !instance.engine.may_expire() && instance.pause.holds(|| true).is_none() {
            instance.engine.set_may_expire(true);
        }
        if instance.engine.sweeps() && instance.pause.holds(|| true).is_none() {
            let start = clock::instant();
            sweep(instance);
            instance.stats.sweeps.us.fetch_add(clock::since(start).as_micros() as u64, Relaxed);
            note_latency(instance, "expire-cycle", clock::since(start));
        }
        expire::forget_tracked(&instance.engine);
        disconnect_idle(instance);
        instance.tick();
        if stop.wait_for(ROUND) {
            break;
        }
    }
}

/// Tells the latency monitor of a chore that took long.
fn note_latency(instance: &Arc<Instance>, event: &'static str, took: Duration) {
    let threshold_ms = instance.config.count(Name::LatencyMonitorThreshold);
    let took_ms = took.as_millis() as u64;
    if threshold_ms > 0 && took_ms >= threshold_ms {
        instance.latency.add(event, clock::now_ms() / 1000, took_ms);
    }
}

fn sweep(instance: &Arc<Instance>) {
    let start = clock::instant();
    let sweeps = &instance.stats.sweeps;
    let (mut keys, mut hashes) = (Share::default(), Share::default());
    loop {
        let swept = expire::sweep(&instance.engine, clock::now_ms());
        publish_events(&instance.engine, &swept.events);
        instance.engine.tracking().tell(&swept.invalid, None);
        instance.engine.serve(swept.touched);
        if let Some(durability) = instance.durability()
            && !swept.events.is_empty()
        {
            durability.poke();
        }
        sweeps.fields.fetch_add(swept.fields, Relaxed);
        for (sum, found) in [(&mut keys, swept.keys), (&mut hashes, swept.hashes)] {
            // What was there before the round's first look.
            sum.whole = sum.whole.max(found.whole);
            sum.part += found.part;
        }
        let is_capped = swept.has_more && clock::since(start) >= SWEEP_MAX;
        sweeps.capped.fetch_add(u64::from(is_capped), Relaxed);
        if !swept.has_more || is_capped {
            break;
        }
    }
    mean_share(&sweeps.stale_keys_ppm, keys.part.min(keys.whole), keys.whole);
    mean_share(&sweeps.stale_hashes_ppm, hashes.part.min(hashes.whole), hashes.whole);
}

/// `timeout`: clients that wait for an answer, listen to channels or watch commands are spared, and those to whom bytes still go out.
fn disconnect_idle(instance: &Arc<Instance>) {
    let now = clock::monotonic_ms();
    let timeout_ms = instance.config.count(Name::Timeout) * 1000;
    if timeout_ms == 0 {
        return;
    }
    for client in instance.clients.all() {
        let is_spared =
            client.has_state(state::BLOCKED) || client.has_state(state::MONITOR) || client.subscriptions.load(Relaxed) > 0;
        if !is_spared && now.saturating_sub(client.active_at.load(Relaxed)) > timeout_ms {
            client.mailbox.leave(|mail| mail.close = Some(false));
        }
    }
}
