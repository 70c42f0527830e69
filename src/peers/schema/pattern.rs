//! Regular expressions whose cost is counted.
//!
//! A text is matched by an automaton whose states are made when they are first needed. A byte that leads to a known state
//! costs next to nothing; one that leads to a new state costs up to as much as the pattern has states, and a text can be
//! written so that each of its bytes does. So the loop over the text is ours, and each new state is paid for.

use std::error::Error;
use std::fmt;

use parking_lot::Mutex;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{Compiler, Config, NFA, WhichCaptures};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Input, hybrid::LazyStateID};
use regex_syntax::ast::{self, Ast, Visitor, parse::Parser};
use regex_syntax::hir::translate::Translator;

use crate::peers::schema::budget::{Budget, Spent};

/// Memory a pattern may take, and what it knows of its automaton while a text is matched.
const BYTES_MAX: usize = 256 * 1024;
/// What it may keep of its automaton for the next text. Ordinary patterns need a few kilobytes, and a schema may have a hundred.
const KEPT_BYTES_MAX: usize = 32 * 1024;
/// Steps to compile the least of patterns, and for each byte of its text.
const STEPS: usize = 1000;
const STEPS_FOR_A_BYTE: usize = 16;
/// Characters that a class stands for which names none: `\w`, `\p{Greek}`, or all but some.
const WIDE: usize = 40_000;
/// Steps to make a state, beside one for each state of the pattern.
const STATE_STEPS: usize = 50;
/// Bytes that are followed through known states in one step, and how many are paid for at once.
const BYTES_FOR_A_STEP: usize = 8;
const SLICE_BYTES: usize = 512;

/// A regular expression.
pub(crate) struct Pattern {
    text: String,
    nfa: NFA,
    dfa: DFA,
    /// What was found out about the automaton, while nobody uses it.
    kept: Mutex<Option<Cache>>,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

/// Why there is no pattern.
pub(crate) enum Refused {
    /// It is none, or too large.
    Bad(String),
    /// Compiling it would take more steps than are left.
    Spent,
}

impl From<Spent> for Refused {
    fn from(_: Spent) -> Refused {
        Refused::Spent
    }
}

impl Pattern {
    /// Compiles a pattern.
    pub(crate) fn compile(text: &str, budget: &mut Budget<'_>) -> Result<Pattern, Refused> {
        budget.spend(STEPS + text.len() * STEPS_FOR_A_BYTE)?;
        let ast = Parser::new().parse(text).map_err(|error| bad(&error))?;
        budget.spend(ast::visit(&ast, Classes::default()).unwrap_or_default())?;
        let hir = Translator::new().translate(text, &ast).map_err(|error| bad(&error))?;
        let config = Config::new().nfa_size_limit(Some(BYTES_MAX)).which_captures(WhichCaptures::None);
        let built = Compiler::new().configure(config).build_from_hir(&hir);
        budget.spend(2 * built.as_ref().map_or(BYTES_MAX, NFA::memory_usage))?;
        let nfa = built.map_err(|error| match error.size_limit() {
            Some(limit) => Refused::Bad(format!("compiled, it is larger than {limit} bytes: repeat less in it")),
            None => bad(&error),
        })?;
        let config = DFA::config().cache_capacity(BYTES_MAX).skip_cache_capacity_check(true).unicode_word_boundary(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(nfa.clone()).map_err(|error| bad(&error))?;
        Ok(Pattern { text: text.to_owned(), nfa, dfa, kept: Mutex::new(None) })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches somewhere in a text.
    pub(crate) fn is_match(&self, text: &str, budget: &mut Budget<'_>) -> Result<bool, Spent> {
        let kept = self.kept.lock().take();
        let mut cache = match kept {
            Some(cache) => cache,
            None => {
                // Room for sets of its states.
                budget.spend(STATE_STEPS + self.states() / 4)?;
                self.dfa.create_cache()
            }
        };
        let found = self.follow(text, &mut cache, budget);
        if cache.memory_usage() <= KEPT_BYTES_MAX {
            *self.kept.lock() = Some(cache);
        }
        match found? {
            Some(is_match) => Ok(is_match),
            None => self.is_slow_match(text, budget),
        }
    }

    fn states(&self) -> usize {
        self.nfa.states().len()
    }

    /// None where the automaton cannot tell, which is at `\b` beside a character that is not ASCII.
    fn follow(&self, text: &str, cache: &mut Cache, budget: &mut Budget<'_>) -> Result<Option<bool>, Spent> {
        budget.spend(STATE_STEPS)?;
        let Ok(mut state) = self.dfa.start_state_forward(cache, &Input::new(text)) else { return Ok(None) };
        for slice in text.as_bytes().chunks(SLICE_BYTES) {
            budget.spend(1 + slice.len() / BYTES_FOR_A_STEP)?;
            for &byte in slice {
                state = match self.dfa.next_state_untagged(cache, state, byte) {
                    unknown if unknown.is_unknown() => {
                        budget.spend(STATE_STEPS + self.states())?;
                        let Ok(made) = self.dfa.next_state(cache, state, byte) else { return Ok(None) };
                        made
                    }
                    known => known,
                };
                if state.is_tagged() {
                    return Ok(told(state));
                }
            }
        }
        budget.spend(STATE_STEPS + self.states())?;
        Ok(match self.dfa.next_eoi_state(cache, state) {
            Ok(end) if end.is_quit() => None,
            Ok(end) => Some(end.is_match()),
            Err(_) => None,
        })
    }

    /// The same by following all ways through the pattern at once.
    fn is_slow_match(&self, text: &str, budget: &mut Budget<'_>) -> Result<bool, Spent> {
        budget.spend(STATE_STEPS + self.states().saturating_mul(2 + text.len()))?;
        // It was built from the same before.
        let Ok(machine) = PikeVM::builder().build_from_nfa(self.nfa.clone()) else { return Ok(false) };
        let mut slots: [Option<NonMaxUsize>; 0] = [];
        let input = Input::new(text).earliest(true);
        Ok(machine.search_slots(&mut machine.create_cache(), &input, &mut slots).is_some())
    }
}

/// What a state says that is not only passed through.
fn told(state: LazyStateID) -> Option<bool> {
    if state.is_match() {
        return Some(true);
    }
    // Nothing that follows can match any more.
    state.is_dead().then_some(false)
}

fn bad(error: &(dyn Error + 'static)) -> Refused {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    Refused::Bad(last.to_owned())
}

/// Steps to find out which characters the classes of a pattern stand for. Where case does not matter, each character is looked
/// up: an `[\x{0}-\x{10ffff}]` takes six milliseconds then, and there is room for thousands in a schema.
#[derive(Default)]
struct Classes {
    characters: usize,
    any_case: bool,
}

impl Classes {
    fn flags(&mut self, flags: &ast::Flags) {
        let any_case = ast::FlagsItemKind::Flag(ast::Flag::CaseInsensitive);
        self.any_case |= flags.items.iter().any(|item| item.kind == any_case);
    }

    fn add(&mut self, characters: usize) {
        self.characters = self.characters.saturating_add(characters);
    }
}

impl Visitor for Classes {
    type Output = usize;
    type Err = ();

    fn finish(self) -> Result<usize, ()> {
        Ok(self.characters / if self.any_case { 2 } else { 80 })
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), ()> {
        match ast {
            Ast::Flags(set) => self.flags(&set.flags),
            Ast::Group(group) => group.flags().into_iter().for_each(|flags| self.flags(flags)),
            Ast::ClassUnicode(_) | Ast::ClassPerl(_) => self.add(WIDE),
            Ast::ClassBracketed(class) if class.negated => self.add(WIDE),
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), ()> {
        self.add(match item {
            ast::ClassSetItem::Range(range) => {
                let (start, end) = (range.start.c as usize, range.end.c as usize);
                1 + end.saturating_sub(start)
            }
            ast::ClassSetItem::Unicode(_) | ast::ClassSetItem::Perl(_) | ast::ClassSetItem::Ascii(_) => WIDE,
            ast::ClassSetItem::Bracketed(_) => WIDE,
            _ => 1,
        });
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), ()> {
        self.add(WIDE);
        Ok(())
    }
}
