//! `LOLWUT`: a small drawing, different each time, and the version below it.

use crate::commands::Outcome;
use crate::commands::args::int;
use crate::commands::session::Session;
use crate::id;
use crate::resp::{Args, Reply};
use crate::version::{REDIS_VERSION, VERSION};

const COLUMNS: usize = 60;
const ROWS: usize = 12;

/// `LOLWUT`
pub(crate) fn lolwut(_: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.is(1, "version") && args.len() >= 3 {
        // There is one drawing, whatever version is asked for.
        int(args, 2)?;
    }
    let mut text = drawing();
    text.push_str(&format!("\nRedis ver. {REDIS_VERSION} (flux {VERSION})\n"));
    reply.verbatim("txt", &text);
    Ok(())
}

/// Rivers that run down a plain and join where they meet.
fn drawing() -> String {
    let mut rivers: Vec<usize> = (0..9).map(|_| id::random_below(COLUMNS)).collect();
    let mut text = String::new();
    for _ in 0..ROWS {
        rivers.sort_unstable();
        rivers.dedup();
        text.extend((0..COLUMNS).map(|column| if rivers.contains(&column) { '~' } else { '.' }));
        text.push('\n');
        for river in &mut rivers {
            *river = (*river + id::random_below(3)).saturating_sub(1).min(COLUMNS - 1);
        }
    }
    text
}
