//! Places as numbers: longitude and latitude, 26 bits each, bit by bit in turn, so that what is near in the order of numbers is near
//! on the map. Members of geo indexes have such numbers as scores, the same as Redis computes, and an area is searched
//! through the ranges of the nine cells that cover it.

use std::f64::consts::PI;
use std::ops::Range;

/// Bits of a coordinate: twice as many fit a double.
const STEPS: u32 = 26;
const LONGITUDE: (f64, f64) = (-180.0, 180.0);
/// What the Mercator projection shows, which is all that can be stored.
const LATITUDE: (f64, f64) = (-85.05112878, 85.05112878);
/// The radius of a sphere that is a little nearer to the earth's shape than its mean one.
const EARTH_RADIUS_M: f64 = 6_372_797.560856;
/// Half the equator, as the Mercator projection measures it.
const MERCATOR_MAX_M: f64 = 20_037_726.37;
const RADIANS: f64 = PI / 180.0;
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// A place on earth, in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    /// East of Greenwich.
    pub longitude: f64,
    /// North of the equator.
    pub latitude: f64,
}

impl Place {
    /// A place, if it is one that can be stored.
    pub(crate) fn new(longitude: f64, latitude: f64) -> Option<Place> {
        let is_within = |value: f64, (min, max): (f64, f64)| (min..=max).contains(&value);
        (is_within(longitude, LONGITUDE) && is_within(latitude, LATITUDE)).then_some(Place { longitude, latitude })
    }

    /// The score of a member at this place.
    pub(crate) fn score(self) -> f64 {
        Cell::of(self, STEPS, LATITUDE).bits() as f64
    }

    /// The place a score stands for: the middle of its cell.
    pub(crate) fn of_score(score: f64) -> Place {
        let (longitude, latitude) = Cell::from_bits(bits_of(score), STEPS).area();
        Place {
            longitude: ((longitude.start + longitude.end) / 2.0).clamp(LONGITUDE.0, LONGITUDE.1),
            latitude: ((latitude.start + latitude.end) / 2.0).clamp(LATITUDE.0, LATITUDE.1),
        }
    }

    /// The name other programs know such a place by: eleven letters and digits.
    pub(crate) fn geohash(self) -> [u8; 11] {
        let bits = Cell::of(self, STEPS, (-90.0, 90.0)).bits();
        let mut text = [ALPHABET[0]; 11];
        // The last one would need more bits than there are, and stays 0.
        for (at, letter) in text[..10].iter_mut().enumerate() {
            *letter = ALPHABET[(bits >> (47 - 5 * at)) as usize & 31];
        }
        text
    }

    /// Metres to another place, on a sphere.
    pub(crate) fn distance(self, other: Place) -> f64 {
        let v = ((other.longitude * RADIANS - self.longitude * RADIANS) / 2.0).sin();
        if v == 0.0 {
            return latitude_distance(self.latitude, other.latitude);
        }
        let (from, to) = (self.latitude * RADIANS, other.latitude * RADIANS);
        let u = ((to - from) / 2.0).sin();
        let a = u * u + from.cos() * to.cos() * v * v;
        2.0 * EARTH_RADIUS_M * a.sqrt().asin()
    }
}

fn latitude_distance(from: f64, to: f64) -> f64 {
    EARTH_RADIUS_M * (to * RADIANS - from * RADIANS).abs()
}

/// A cell of the grid that the map is cut into by halving it so many times each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    x: u32,
    y: u32,
    steps: u32,
}

impl Cell {
    fn of(place: Place, steps: u32, latitudes: (f64, f64)) -> Cell {
        let part = |value: f64, (min, max): (f64, f64)| ((value - min) / (max - min) * (1u64 << steps) as f64) as u32;
        Cell { x: part(place.longitude, LONGITUDE), y: part(place.latitude, latitudes), steps }
    }

    fn from_bits(bits: u64, steps: u32) -> Cell {
        Cell { x: gather(bits >> 1), y: gather(bits), steps }
    }

    /// The bits of both coordinates in turn. A coordinate at the far edge spills over into one bit more, as it does in Redis.
    fn bits(self) -> u64 {
        spread(self.y) | spread(self.x) << 1
    }

    /// The cell so many columns to the east and rows to the north; the map ends nowhere.
    fn beside(self, east: i32, north: i32) -> Cell {
        let mask = ((1u64 << self.steps) - 1) as u32;
        let moved = |at: u32, by: i32| if by == 0 { at } else { at.wrapping_add_signed(by) & mask };
        Cell { x: moved(self.x, east), y: moved(self.y, north), ..self }
    }

    /// The degrees it reaches over, east and north.
    fn area(self) -> (Range<f64>, Range<f64>) {
        let cells = (1u64 << self.steps) as f64;
        let edge = |at: f64, (min, max): (f64, f64)| min + at / cells * (max - min);
        let (x, y) = (f64::from(self.x), f64::from(self.y));
        (edge(x, LONGITUDE)..edge(x + 1.0, LONGITUDE), edge(y, LATITUDE)..edge(y + 1.0, LATITUDE))
    }

    /// The scores of the places within.
    fn scores(self) -> Range<f64> {
        let (bits, shift) = (self.bits(), 2 * (STEPS - self.steps));
        (bits << shift) as f64..((bits + 1) << shift) as f64
    }
}

/// Puts a zero bit before each bit of a number.
fn spread(number: u32) -> u64 {
    let mut bits = u64::from(number);
    for (shift, mask) in [
        (16, 0x0000_FFFF_0000_FFFF),
        (8, 0x00FF_00FF_00FF_00FF),
        (4, 0x0F0F_0F0F_0F0F_0F0F),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Takes every second bit, from the lowest on.
fn gather(number: u64) -> u32 {
    let mut bits = number & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0F0F_0F0F_0F0F_0F0F),
        (4, 0x00FF_00FF_00FF_00FF),
        (8, 0x0000_FFFF_0000_FFFF),
        (16, 0x0000_0000_FFFF_FFFF),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

/// What is searched, around a place; in metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    /// A circle of this radius.
    Circle(f64),
    /// A box of this width and height.
    Box(f64, f64),
}

/// A shape around a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Area {
    /// The place.
    pub center: Place,
    /// The shape.
    pub shape: Shape,
}

impl Area {
    /// How far from the middle a place within is; None outside.
    pub(crate) fn distance(&self, place: Place) -> Option<f64> {
        match self.shape {
            Shape::Circle(radius) => Some(self.center.distance(place)).filter(|distance| *distance <= radius),
            Shape::Box(width, height) => {
                let beside = Place { longitude: self.center.longitude, ..place };
                let is_outside = latitude_distance(place.latitude, self.center.latitude) > height / 2.0
                    || place.distance(beside) > width / 2.0;
                (!is_outside).then(|| self.center.distance(place))
            }
        }
    }

    /// The ranges of scores in which all places within are, in the order in which Redis searches them: the cell of the middle,
    /// then its neighbours.
    pub(crate) fn scores(&self) -> Vec<Range<f64>> {
        let bounds = self.bounds();
        let mut cell = Cell::of(self.center, self.steps(), LATITUDE);
        if cell.steps > 1 && !bounds.is_covered_by_neighbours_of(cell) {
            cell = Cell::of(self.center, cell.steps - 1, LATITUDE);
        }
        let sides = bounds.sides_needed(cell);
        let mut cells: Vec<Cell> = Vec::with_capacity(9);
        for (east, north) in [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)] {
            let next = cell.beside(east, north);
            // In a coarse grid a cell is its neighbours' neighbour on both sides.
            let is_repeated = cells.len() > 1 && cells.last() == Some(&next);
            if sides.are_needed(east, north) && !is_repeated {
                cells.push(next);
            }
        }
        cells.into_iter().map(Cell::scores).collect()
    }

    /// Metres from the middle to the farthest place within.
    fn radius(&self) -> f64 {
        match self.shape {
            Shape::Circle(radius) => radius,
            Shape::Box(width, height) => ((width / 2.0).powi(2) + (height / 2.0).powi(2)).sqrt(),
        }
    }

    /// How fine a grid may be for nine cells to cover the area: finer by one would do in most places, not in all.
    fn steps(&self) -> u32 {
        let mut radius = self.radius();
        if radius == 0.0 {
            return STEPS;
        }
        let mut steps = 1;
        while radius < MERCATOR_MAX_M {
            radius *= 2.0;
            steps += 1;
        }
        steps -= 2;
        // Towards the poles cells are narrower.
        let latitude = self.center.latitude.abs();
        steps -= i32::from(latitude > 66.0) + i32::from(latitude > 80.0);
        steps.clamp(1, STEPS as i32) as u32
    }

    /// The degrees it reaches over.
    fn bounds(&self) -> Bounds {
        let (width, height) = match self.shape {
            Shape::Circle(radius) => (radius, radius),
            Shape::Box(width, height) => (width / 2.0, height / 2.0),
        };
        let Place { longitude, latitude } = self.center;
        let north = height / EARTH_RADIUS_M / RADIANS;
        // A degree of longitude is shortest on the side of the pole.
        let nearest_to_pole = if latitude < 0.0 { latitude - north } else { latitude + north };
        let east = width / EARTH_RADIUS_M / (nearest_to_pole * RADIANS).cos() / RADIANS;
        Bounds { longitude: longitude - east..longitude + east, latitude: latitude - north..latitude + north }
    }
}

struct Bounds {
    longitude: Range<f64>,
    latitude: Range<f64>,
}

/// On which sides of a cell its neighbours may hold something.
struct Sides {
    east: bool,
    west: bool,
    north: bool,
    south: bool,
}

impl Sides {
    fn are_needed(&self, east: i32, north: i32) -> bool {
        let east_or_west = if east > 0 { self.east } else { east == 0 || self.west };
        let north_or_south = if north > 0 { self.north } else { north == 0 || self.south };
        east_or_west && north_or_south
    }
}

impl Bounds {
    /// Whether the neighbours of a cell reach as far as this on all sides.
    fn is_covered_by_neighbours_of(&self, cell: Cell) -> bool {
        cell.beside(0, 1).area().1.end >= self.latitude.end
            && cell.beside(0, -1).area().1.start <= self.latitude.start
            && cell.beside(1, 0).area().0.end >= self.longitude.end
            && cell.beside(-1, 0).area().0.start <= self.longitude.start
    }

    fn sides_needed(&self, cell: Cell) -> Sides {
        if cell.steps < 2 {
            return Sides { east: true, west: true, north: true, south: true };
        }
        let (longitude, latitude) = cell.area();
        Sides {
            east: longitude.end <= self.longitude.end,
            west: longitude.start >= self.longitude.start,
            north: latitude.end <= self.latitude.end,
            south: latitude.start >= self.latitude.start,
        }
    }
}

/// A score as the bits of a cell. Scores that no cell has, which ZADD can set, become what x86-64 makes of them in Redis.
fn bits_of(score: f64) -> u64 {
    const HALF: f64 = (1u64 << 63) as f64;
    if score < HALF {
        score as i64 as u64
    } else if score < 2.0 * HALF {
        score as u64
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_have_the_scores_and_names_redis_gives_them() {
        let palermo = Place::new(13.361389, 38.115556).unwrap();
        let catania = Place::new(15.087269, 37.502669).unwrap();
        assert_eq!(palermo.score(), 3479099956230698.0);
        assert_eq!(catania.score(), 3479447370796909.0);
        let (palermo, catania) = (Place::of_score(palermo.score()), Place::of_score(catania.score()));
        assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
        assert_eq!(format!("{:.4}", palermo.distance(catania)), "166274.1516");
    }

    #[test]
    fn bits_are_spread_and_gathered_again() {
        for number in [0, 1, 0x1234_5678, u32::MAX] {
            assert_eq!(gather(spread(number)), number);
        }
    }

    fn place() -> impl Strategy<Value = Place> {
        (LONGITUDE.0..LONGITUDE.1, LATITUDE.0..LATITUDE.1).prop_map(|(longitude, latitude)| Place { longitude, latitude })
    }

    proptest! {
        #[test]
        fn what_is_within_an_area_is_found_in_its_cells(center in place(), east in -1.0..1.0f64, north in -1.0..1.0f64, size in 0..60u32) {
            // From a metre to a sixth of the way around the earth, away from its edges, where Redis does not search around.
            let radius = 1.25f64.powi(size as i32);
            let degrees = radius / EARTH_RADIUS_M / RADIANS;
            let Some(place) = Place::new(center.longitude + east * degrees, center.latitude + north * degrees) else { return Ok(()) };
            for shape in [Shape::Circle(radius), Shape::Box(2.0 * radius, radius)] {
                let area = Area { center, shape };
                let place = Place::of_score(place.score());
                if area.distance(place).is_some() && center.latitude.abs() + degrees < 80.0 {
                    let score = place.score();
                    prop_assert!(area.scores().iter().any(|scores| scores.contains(&score)), "{:?} {:?}", area, place);
                }
            }
        }
    }
}
