//! Geo indexes: places given and told, and what lies in circles and boxes.

use crate::script::check;

/// The two cities of Redis' documentation, and one more.
const SICILY: &str = "
    GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania => 2
    GEOADD g 13.583333 37.316667 Agrigento => 1
";

#[track_caller]
fn check_in_sicily(script: &str) {
    check(&format!("{SICILY}{script}"));
}

#[test]
fn places_are_told_as_they_are_kept() {
    check_in_sicily(
        "
        GEOPOS g Palermo x => [[13.36138933897018433, 38.11555639549629859], (nil)]
        GEOHASH g Palermo x Catania => [sqc8b49rny0, (nil), sqdtr74hyu0]
        GEOPOS nothing x => [(nil)]
        GEOHASH nothing x => [(nil)]
        ZSCORE g Palermo => 3479099956230698
        GEODIST g Palermo Catania => 166274.1516
        GEODIST g Palermo Catania km => 166.2742
        GEODIST g Palermo Catania MI => 103.3182
        GEODIST g Palermo x => (nil)
        GEODIST g Palermo Catania x => ERR unsupported unit provided. please use M, KM, FT, MI
    ",
    );
}

#[test]
fn places_off_the_map_are_refused() {
    check(
        "
        GEOADD g 181 0 x => ERR invalid longitude,latitude pair 181.000000,0.000000
        GEOADD g 1 2 a 0 85.06 x => ERR invalid longitude,latitude pair 0.000000,85.060000
        EXISTS g => 0
        GEOADD g x 0 a => ERR value is not a valid float
        GEOADD g 1 2 => ERR wrong number of arguments for 'geoadd' command
        GEOADD g 1 2 a 3 => ERR syntax error
        GEOADD g NX XX 1 2 a => ERR syntax error
        GEOADD g XX 1 2 a => 0
        GEOADD g 1 2 a => 1
        GEOADD g CH 1 3 a 5 6 b => 2
        GEOADD g NX 1 3 a => 0
    ",
    );
}

#[test]
fn circles_and_boxes_are_searched() {
    check_in_sicily(
        "
        GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC => [Catania, Agrigento, Palermo]
        GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km DESC COUNT 1 => [Palermo]
        GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 => [Catania]
        GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST => [[Catania, 56.4413], [Agrigento, 130.4235], [Palermo, 190.4424]]
        GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 60 km => []
        GEOSEARCH g FROMMEMBER Palermo BYRADIUS 100 km ASC WITHCOORD WITHHASH COUNT 1 => [[Palermo, 3479099956230698, [13.36138933897018433, 38.11555639549629859]]]
        GEOSEARCH g FROMMEMBER x BYRADIUS 100 km => ERR could not decode requested zset member
        GEOSEARCH g BYRADIUS 100 km ASC COUNT 1 => ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH
        GEOSEARCH g FROMLONLAT 15 37 ASC COUNT 1 ANY => ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH
        GEOSEARCH g FROMLONLAT 15 37 FROMMEMBER Palermo BYRADIUS 1 m => ERR syntax error
        GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ANY => ERR the ANY argument requires COUNT argument
        GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km COUNT 0 => ERR COUNT must be > 0
        GEOSEARCH g FROMLONLAT 15 37 BYRADIUS -1 km => ERR radius cannot be negative
        GEOSEARCH g FROMLONLAT 15 37 BYRADIUS x km => ERR need numeric radius
        GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 -1 km => ERR height or width cannot be negative
        GEOSEARCH nothing FROMMEMBER x BYRADIUS 100 km => []
    ",
    );
}

#[test]
fn older_commands_search_too() {
    check_in_sicily(
        "
        GEORADIUS g 15 37 200 km ASC => [Catania, Agrigento, Palermo]
        GEORADIUS_RO g 15 37 200 km WITHDIST COUNT 1 => [[Catania, 56.4413]]
        GEORADIUSBYMEMBER g Agrigento 100 km => [Agrigento, Palermo]
        GEORADIUSBYMEMBER_RO g Agrigento 100 km STORE r => ERR syntax error
        GEORADIUS g 15 37 200 km STORE r WITHDIST => ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options
        GEORADIUSBYMEMBER nothing x 100 km => []
    ",
    );
}

#[test]
fn results_are_stored_with_places_or_distances() {
    check_in_sicily(
        "
        GEOSEARCHSTORE r g FROMLONLAT 15 37 BYRADIUS 200 km => 3
        ZRANGE r 0 -1 WITHSCORES => [Agrigento, 3479030013248308, Palermo, 3479099956230698, Catania, 3479447370796909]
        GEOSEARCHSTORE r g FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 STOREDIST => 1
        ZRANGE r 0 -1 => [Catania]
        ZRANGE r 56 57 BYSCORE => [Catania]
        GEORADIUS g 15 37 1 km STORE r => 0
        EXISTS r => 0
        GEORADIUSBYMEMBER g Palermo 1 km STOREDIST r => 1
        ZRANGE r 0 -1 WITHSCORES => [Palermo, 0]
        GEOSEARCHSTORE r nothing FROMMEMBER x BYRADIUS 1 m => 0
        EXISTS r => 0
        GEOSEARCHSTORE r g FROMLONLAT 15 37 BYRADIUS 200 km WITHDIST => ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options
    ",
    );
}
