//! Commands that search an area: `GEOSEARCH`, `GEORADIUS` and their like.

use std::ops::ControlFlow;

use crate::commands::Outcome;
use crate::commands::args::{Rest, parse_float, parse_int};
use crate::commands::geo::place::{metres, place, place_of, show_distance, show_place};
use crate::commands::zset::answer::store;
use crate::engine::blob::Blob;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Write};
use crate::engine::types::geohash::{Area, Place, Shape};
use crate::engine::types::zset::{Cut, Direction, Zset};
use crate::resp::{Args, Reply};

/// Which of the commands that search this is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `GEORADIUS`: the place and the radius stand first.
    Place { may_store: bool },
    /// `GEORADIUSBYMEMBER`: a member and the radius stand first.
    Member { may_store: bool },
    /// `GEOSEARCH`: all are options.
    Search,
    /// `GEOSEARCHSTORE`: the same, with a key to store at before the key to search.
    SearchStore,
}

impl Form {
    fn is_search(self) -> bool {
        matches!(self, Form::Search | Form::SearchStore)
    }

    fn may_store(self) -> bool {
        matches!(self, Form::Place { may_store: true } | Form::Member { may_store: true })
    }

    /// The position of the key that is searched.
    fn key(self) -> usize {
        if self == Form::SearchStore { 2 } else { 1 }
    }

    /// The event of a result that was stored.
    fn event(self) -> &'static str {
        if self.is_search() { "geosearchstore" } else { "georadiusstore" }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Nearest,
    Farthest,
}

/// Where the middle of the area is. None where it is a member and there is no key to find it in.
#[derive(Clone, Copy)]
enum Center {
    Member(Option<Place>),
    Place(Place),
}

impl Center {
    fn place(self) -> Option<Place> {
        match self {
            Center::Member(place) => place,
            Center::Place(place) => Some(place),
        }
    }
}

/// What is searched, and how the result is wanted.
struct Query<'a> {
    center: Option<Center>,
    shape: Option<Shape>,
    /// Metres in the unit of the shape, in which distances are shown.
    metres: f64,
    shows_distance: bool,
    shows_score: bool,
    shows_place: bool,
    order: Option<Order>,
    /// How many members at most; 0 for all.
    count: usize,
    /// Whether any members will do, not just the nearest.
    is_any: bool,
    /// Where to store the result, and whether with distances as scores.
    store: Option<&'a [u8]>,
    stores_distance: bool,
}

impl<'a> Query<'a> {
    /// Reads a command's arguments. `zset` is what the key holds that is searched.
    fn read(args: Args<'a>, form: Form, zset: Option<&Zset>) -> Result<Query<'a>, Error> {
        let mut query = Query {
            center: None,
            shape: None,
            metres: 1.0,
            shows_distance: false,
            shows_score: false,
            shows_place: false,
            order: None,
            count: 0,
            is_any: false,
            store: (form == Form::SearchStore).then(|| args.at(1)),
            stores_distance: false,
        };
        let mut rest = query.read_head(args, form, zset)?;
        while rest.left() > 0 {
            query.read_option(&mut rest, form, zset)?;
        }
        query.check(args, form)?;
        Ok(query)
    }

    /// Reads what stands before the options, and gives what is left.
    fn read_head<'r>(&mut self, args: Args<'r>, form: Form, zset: Option<&Zset>) -> Result<Rest<'r>, Error> {
        let options_at = match form {
            Form::Search => 2,
            Form::SearchStore => 3,
            Form::Place { .. } => {
                self.center = Some(Center::Place(place(args.at(2), args.at(3))?));
                self.read_radius(args.at(4), args.at(5))?;
                6
            }
            Form::Member { .. } => {
                self.center = Some(member(zset, args.at(2))?);
                if zset.is_some() {
                    self.read_radius(args.at(3), args.at(4))?;
                }
                5
            }
        };
        Ok(Rest::of(args, options_at))
    }

    fn read_option(&mut self, rest: &mut Rest<'a>, form: Form, zset: Option<&Zset>) -> Outcome {
        if rest.word("withdist") {
            self.shows_distance = true;
        } else if rest.word("withhash") {
            self.shows_score = true;
        } else if rest.word("withcoord") {
            self.shows_place = true;
        } else if rest.word("any") {
            self.is_any = true;
        } else if rest.word("asc") {
            self.order = Some(Order::Nearest);
        } else if rest.word("desc") {
            self.order = Some(Order::Farthest);
        } else if let Some(count) = rest.value("count") {
            self.count = usize::try_from(parse_int(count)?).ok().filter(|count| *count > 0).ok_or(error::GEO_COUNT)?;
        } else if form.is_search() {
            self.read_search_option(rest, form, zset)?;
        } else if !form.may_store() {
            return Err(error::SYNTAX);
        } else if let Some(key) = rest.value("store") {
            (self.store, self.stores_distance) = (Some(key), false);
        } else if let Some(key) = rest.value("storedist") {
            (self.store, self.stores_distance) = (Some(key), true);
        } else {
            return Err(error::SYNTAX);
        }
        Ok(())
    }

    fn read_search_option(&mut self, rest: &mut Rest<'_>, form: Form, zset: Option<&Zset>) -> Outcome {
        let (is_place, is_member) =
            (matches!(self.center, Some(Center::Place(_))), matches!(self.center, Some(Center::Member(_))));
        let (is_box, is_circle) = (matches!(self.shape, Some(Shape::Box(..))), matches!(self.shape, Some(Shape::Circle(_))));
        if !is_place && let Some(name) = rest.value("frommember") {
            self.center = Some(member(zset, name)?);
        } else if !is_member && let Some([longitude, latitude]) = rest.values("fromlonlat") {
            self.center = Some(Center::Place(place(longitude, latitude)?));
        } else if !is_box && let Some([radius, unit]) = rest.values("byradius") {
            self.read_radius(radius, unit)?;
        } else if !is_circle && let Some([width, height, unit]) = rest.values("bybox") {
            self.read_box(width, height, unit)?;
        } else if form == Form::SearchStore && rest.word("storedist") {
            self.stores_distance = true;
        } else {
            return Err(error::SYNTAX);
        }
        Ok(())
    }

    fn read_radius(&mut self, radius: &[u8], unit: &[u8]) -> Outcome {
        let radius = parse_float(radius).ok_or(error::RADIUS_NOT_FLOAT)?;
        if radius < 0.0 {
            return Err(error::RADIUS_NEGATIVE);
        }
        self.metres = metres(unit)?;
        self.shape = Some(Shape::Circle(radius * self.metres));
        Ok(())
    }

    fn read_box(&mut self, width: &[u8], height: &[u8], unit: &[u8]) -> Outcome {
        let width = parse_float(width).ok_or(error::WIDTH_NOT_FLOAT)?;
        let height = parse_float(height).ok_or(error::HEIGHT_NOT_FLOAT)?;
        if width < 0.0 || height < 0.0 {
            return Err(error::BOX_NEGATIVE);
        }
        self.metres = metres(unit)?;
        self.shape = Some(Shape::Box(width * self.metres, height * self.metres));
        Ok(())
    }

    /// Checks that the options go together.
    fn check(&self, args: Args<'_>, form: Form) -> Outcome {
        let name = || String::from_utf8_lossy(args.at(0)).into_owned();
        if self.store.is_some() && (self.shows_distance || self.shows_score || self.shows_place) {
            let what = if form == Form::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(Error::new(format!("ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options")));
        }
        if form.is_search() && self.center.is_none() {
            return Err(Error::new(format!("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}", name())));
        }
        if form.is_search() && self.shape.is_none() {
            return Err(Error::new(format!("ERR exactly one of BYRADIUS and BYBOX can be specified for {}", name())));
        }
        if self.is_any && self.count == 0 {
            return Err(error::GEO_ANY);
        }
        Ok(())
    }

    fn run(&self, zset: &Zset) -> Vec<Found> {
        let Some((center, shape)) = self.center.and_then(Center::place).zip(self.shape) else { return Vec::new() };
        let mut found = search(zset, Area { center, shape }, if self.is_any { self.count } else { 0 });
        // The nearest are meant by a count, unless any will do.
        let order = self.order.or((self.count > 0 && !self.is_any).then_some(Order::Nearest));
        match order {
            Some(Order::Nearest) => found.sort_by(|one, other| one.distance.total_cmp(&other.distance)),
            Some(Order::Farthest) => found.sort_by(|one, other| other.distance.total_cmp(&one.distance)),
            None => {}
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        found
    }

    fn show(&self, found: &[Found], reply: &mut Reply) {
        let details = usize::from(self.shows_distance) + usize::from(self.shows_score) + usize::from(self.shows_place);
        reply.array(found.len());
        for found in found {
            if details > 0 {
                reply.array(1 + details);
            }
            reply.bulk(&found.member);
            if self.shows_distance {
                show_distance(reply, found.distance / self.metres);
            }
            if self.shows_score {
                reply.int(found.score as i64);
            }
            if self.shows_place {
                show_place(reply, Place::of_score(found.score));
            }
        }
    }
}

/// A middle that is a member; it must be there if its key is.
fn member(zset: Option<&Zset>, member: &[u8]) -> Result<Center, Error> {
    match zset {
        None => Ok(Center::Member(None)),
        Some(zset) => place_of(zset, member).map(|place| Center::Member(Some(place))).ok_or(error::NO_GEO_MEMBER),
    }
}

/// A member within an area.
struct Found {
    member: Blob,
    score: f64,
    /// In metres.
    distance: f64,
}

/// The members in an area, but no more than `limit` unless that is 0.
fn search(zset: &Zset, area: Area, limit: usize) -> Vec<Found> {
    let mut found = Vec::new();
    for scores in area.scores() {
        let ranks = zset.rank_of(Cut::Before(scores.start))..zset.rank_of(Cut::Before(scores.end));
        let is_over = zset.walk(ranks, Direction::Up, &mut |member, score| {
            if let Some(distance) = area.distance(Place::of_score(score)) {
                found.push(Found { member: Blob::from(member), score, distance });
            }
            if limit > 0 && found.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if is_over.is_break() {
            break;
        }
    }
    found
}

fn answer(keys: &mut Read<'_>, args: Args<'_>, form: Form, reply: &mut Reply) -> Outcome {
    let zset = keys.get::<Zset>(args.at(form.key()))?;
    let query = Query::read(args, form, zset)?;
    let found = zset.map_or_else(Vec::new, |zset| query.run(zset));
    query.show(&found, reply);
    Ok(())
}

fn answer_or_store(keys: &mut Write<'_>, args: Args<'_>, form: Form, reply: &mut Reply) -> Outcome {
    let zset = keys.get::<Zset>(args.at(form.key()))?;
    let query = Query::read(args, form, zset)?;
    let found = zset.map_or_else(Vec::new, |zset| query.run(zset));
    let Some(key) = query.store else {
        query.show(&found, reply);
        return Ok(());
    };
    let mut result = Zset::default();
    for found in &found {
        let score = if query.stores_distance { found.distance / query.metres } else { found.score };
        result.set(&found.member, score);
    }
    store(keys, key, result, form.event(), reply);
    Ok(())
}

pub(crate) fn geosearch(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    answer(keys, args, Form::Search, reply)
}

pub(crate) fn geosearchstore(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    answer_or_store(keys, args, Form::SearchStore, reply)
}

pub(crate) fn georadius(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    answer_or_store(keys, args, Form::Place { may_store: true }, reply)
}

pub(crate) fn georadius_ro(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    answer(keys, args, Form::Place { may_store: false }, reply)
}

pub(crate) fn georadiusbymember(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    answer_or_store(keys, args, Form::Member { may_store: true }, reply)
}

pub(crate) fn georadiusbymember_ro(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    answer(keys, args, Form::Member { may_store: false }, reply)
}
