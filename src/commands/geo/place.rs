//! Places and units in arguments and answers.

use crate::commands::args::parse_float;
use crate::engine::error::{self, Error};
use crate::engine::types::geohash::Place;
use crate::engine::types::zset::Zset;
use crate::resp::Reply;

/// Reads a longitude and a latitude.
pub(crate) fn place(longitude: &[u8], latitude: &[u8]) -> Result<Place, Error> {
    let float = |text: &[u8]| parse_float(text).ok_or(error::NOT_FLOAT);
    let (longitude, latitude) = (float(longitude)?, float(latitude)?);
    Place::new(longitude, latitude)
        .ok_or_else(|| Error::new(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

pub(crate) fn place_of(zset: &Zset, member: &[u8]) -> Option<Place> {
    zset.score(member).map(Place::of_score)
}

/// How many metres a unit has.
pub(crate) fn metres(name: &[u8]) -> Result<f64, Error> {
    match name.to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(error::UNIT),
    }
}

pub(crate) fn show_distance(reply: &mut Reply, distance: f64) {
    reply.bulk(format!("{distance:.4}").as_bytes());
}

/// A coordinate's digits are those of the double it is, 17 after the point, without zeros at the end.
pub(crate) fn show_place(reply: &mut Reply, place: Place) {
    reply.array(2);
    for degrees in [place.longitude, place.latitude] {
        let digits = format!("{degrees:.17}");
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        if reply.is_resp3() {
            reply.raw(format!(",{digits}\r\n").as_bytes());
        } else {
            reply.bulk(digits.as_bytes());
        }
    }
}
