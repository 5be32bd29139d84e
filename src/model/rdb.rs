//! Which server can load whose data set.

use super::evidence::Flavour;

/// The RDB version that a server writes. Sources: `RDB_VERSION` in rdb.h of Redis 6.2 (9), 7.0 (10), 7.2 (11),
/// 7.4 (12) and of Valkey 7.2 to 8.1 (11), 9.0 (80); measured at the head of an RDB of Redis 8.2.3: 12. A version that is not
/// listed counts as newer than all; none where the text is no version.
fn rdb_version(flavour: Flavour, version: &str) -> Option<u32> {
    let (major, minor) = release(version)?;
    Some(match (flavour, major, minor) {
        (Flavour::Valkey, 0..=8, _) => 11,
        (Flavour::Valkey, 9, _) => 80,
        (Flavour::Redis, 0..=6, _) => 9,
        (Flavour::Redis, 7, 0) => 10,
        (Flavour::Redis, 7, 2) => 11,
        (Flavour::Redis, 7, 4) => 12,
        (Flavour::Redis, 8, 0..=2) => 12,
        _ => u32::MAX,
    })
}

/// Major and minor: a patch has never changed the format.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    Some((parts.next()??, parts.next()??))
}

/// Whether `reader` can load what `writer` sends. A replica that cannot may drop its own data first
/// (Redis 7.0.15 with a Valkey 8.0.1 primary: the old data is flushed, then the load fails).
pub fn loads(reader: (Flavour, &str), writer: (Flavour, &str)) -> bool {
    if reader == writer {
        return true;
    }
    if reader.0 == writer.0 && release(reader.1).is_some() && release(reader.1) == release(writer.1) {
        return true;
    }
    let (Some(own), Some(other)) = (rdb_version(reader.0, reader.1), rdb_version(writer.0, writer.1)) else {
        return false;
    };
    if other == u32::MAX || other > own {
        return false;
    }
    // Above 11, the last that both write, the numbers of one mean nothing to the other.
    reader.0 == writer.0 || other <= 11
}

#[cfg(test)]
mod tests {
    use super::*;
    use Flavour::{Redis, Valkey};

    #[test]
    fn older_data_loads_and_newer_does_not() {
        assert!(loads((Redis, "7.2.4"), (Redis, "7.0.15")));
        assert!(!loads((Redis, "7.0.15"), (Redis, "7.2.4")));
        assert!(!loads((Redis, "7.0.15"), (Valkey, "8.0.1")));
        assert!(loads((Valkey, "8.0.1"), (Redis, "7.0.15")));
        assert!(!loads((Redis, "8.2.0"), (Valkey, "9.1.2")));
        assert!(!loads((Valkey, "9.1.2"), (Redis, "7.4.0")));
        assert!(loads((Redis, "9.9.9"), (Redis, "9.9.9")), "the same build always loads its own");
        assert!(loads((Redis, "9.9.9"), (Redis, "9.9.8")), "a patch changes no format");
        assert!(!loads((Redis, "9.9.9"), (Redis, "9.8.8")), "what is unknown is not taken for safe");
        assert!(loads((Redis, "7.4.0"), (Redis, "8.2.3")) && loads((Redis, "8.0.0"), (Redis, "8.2.3")));
        assert!(loads((Redis, "8.4.0"), (Redis, "8.2.3")) && !loads((Redis, "8.2.3"), (Redis, "8.4.0")));
        assert!(!loads((Redis, "9.0.0"), (Valkey, "9.0.0")), "numbers of the other flavour mean nothing");
        assert!(!loads((Redis, "unstable"), (Redis, "7.0.15")), "nor is a version that cannot be read");
        assert!(!loads((Redis, "7.2.0"), (Redis, "8.99999999999")), "nor one that overflows");
        assert!(!loads((Redis, "7.2.0"), (Redis, "8.4294967295")));
    }
}
