//! `LCS`: the longest sequence of bytes two strings have in common.

use crate::commands::Outcome;
use crate::commands::args::{Rest, parse_int};
use crate::engine::error::{self, Error};
use crate::engine::keys::Read;
use crate::engine::types::lcs::{Match, Table};
use crate::engine::types::string::{IntText, Str, bytes_max};
use crate::resp::{Args, Reply};

#[derive(Default)]
struct Options {
    /// `LEN`: only how long it is.
    wants_len: bool,
    /// `IDX`: where its pieces are.
    wants_matches: bool,
    /// `WITHMATCHLEN`: how long each piece is.
    wants_match_len: bool,
    /// `MINMATCHLEN`: shorter pieces are left out.
    match_len_min: i64,
}

pub(crate) fn lcs(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (one, other) = (text(keys, args.at(1)), text(keys, args.at(2)));
    let (one, other) = (one?, other?);
    let options = Options::read(Rest::of(args, 3))?;
    if Table::bytes_for(&one, &other) > bytes_max() {
        return Err(error::LCS_TOO_LONG);
    }
    let table = Table::new(&one, &other);
    if options.wants_matches {
        show_matches(&table, &options, reply);
    } else if options.wants_len {
        reply.count(table.len());
    } else {
        reply.bulk(&table.sequence());
    }
    Ok(())
}

fn text(keys: &mut Read<'_>, key: &[u8]) -> Result<Vec<u8>, Error> {
    match keys.get::<Str>(key) {
        Ok(found) => Ok(found.map(|string| string.bytes(&mut IntText::new()).to_vec()).unwrap_or_default()),
        Err(error) if error == error::WRONG_TYPE => Err(error::LCS_NOT_STRINGS),
        Err(error) => Err(error),
    }
}

impl Options {
    fn read(mut args: Rest<'_>) -> Result<Options, Error> {
        let mut options = Options::default();
        loop {
            if args.word("idx") {
                options.wants_matches = true;
            } else if args.word("len") {
                options.wants_len = true;
            } else if args.word("withmatchlen") {
                options.wants_match_len = true;
            } else if let Some(len) = args.value("minmatchlen") {
                options.match_len_min = parse_int(len)?;
            } else {
                break args.end()?;
            }
        }
        if options.wants_matches && options.wants_len {
            return Err(error::LCS_LEN_AND_IDX);
        }
        Ok(options)
    }
}

fn show_matches(table: &Table<'_>, options: &Options, reply: &mut Reply) {
    let matches: Vec<Match> = table.matches().into_iter().filter(|found| found.len as i64 >= options.match_len_min).collect();
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.len());
    for found in matches {
        reply.array(2 + usize::from(options.wants_match_len));
        for start in [found.one, found.other] {
            reply.array(2);
            reply.count(start);
            reply.count(start + found.len - 1);
        }
        if options.wants_match_len {
            reply.count(found.len);
        }
    }
    reply.bulk(b"len");
    reply.count(table.len());
}
