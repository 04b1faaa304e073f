//! Says how many attackers there are, from where, and how often they do what, all at once; here and nowhere else.

use std::net::Ipv4Addr;
use std::time::Duration;

/// Names a kind of attack.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Kind {
    SlowHeaders,
    Unread,
    Idle,
    Handshakes,
    Authorize,
    Readyz,
    Erasures,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::SlowHeaders,
        Self::Unread,
        Self::Idle,
        Self::Handshakes,
        Self::Authorize,
        Self::Readyz,
        Self::Erasures,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SlowHeaders => "slow headers",
            Self::Unread => "unread answers",
            Self::Idle => "idle",
            Self::Handshakes => "begun handshakes",
            Self::Authorize => "authorize",
            Self::Readyz => "readyz",
            Self::Erasures => "erasures",
        }
    }

    /// Returns the second byte of the addresses of a kind.
    const fn network(self) -> u8 {
        1 + self as u8
    }
}

/// Shrinks an attack, for tests: 1 is all of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale(pub(crate) f64);

impl Scale {
    /// Returns so much of a number, at least one.
    pub(crate) fn of(self, number: usize) -> usize {
        ((number as f64 * self.0).round() as usize).max(1)
    }
}

/// Describes connections that are held, and opened anew when the server has ended them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) kind: Kind,
    pub(crate) connections: usize,
}

/// The connections that are held.
pub(crate) const HELD: [Held; 4] = [
    Held {
        kind: Kind::SlowHeaders,
        connections: 1_000,
    },
    Held {
        kind: Kind::Unread,
        connections: 1_000,
    },
    Held {
        kind: Kind::Idle,
        connections: 10_000,
    },
    Held {
        kind: Kind::Handshakes,
        connections: 100,
    },
];

/// The connections that one address holds: fewer than it may, so that only the bound on all of them helps.
const HELD_BY_ADDRESS: usize = 200;

/// The time after which a connection that the server has ended, or refused, is opened anew.
pub(crate) const REOPENED_AFTER: Duration = Duration::from_secs(1);

/// The time between two bytes of a slow header.
pub(crate) const BETWEEN_BYTES: Duration = Duration::from_secs(1);

impl Held {
    /// Returns the address that holds a connection.
    pub(crate) fn address(&self, connection: usize) -> Ipv4Addr {
        address(self.kind.network(), connection / HELD_BY_ADDRESS)
    }
}

/// Describes requests that come at a rate, whatever becomes of the ones before, as far as there are connections for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flood {
    pub(crate) kind: Kind,
    /// Number of the first of its addresses.
    first: usize,
    pub(crate) addresses: usize,
    /// Connections of each address.
    pub(crate) connections: usize,
    /// Requests in a second, of all addresses.
    pub(crate) rate: f64,
}

/// The floods. Of authorize, one half comes from 50 addresses that are soon beyond their limit, the other from 950 that never
/// are.
pub(crate) const FLOODS: [Flood; 4] = [
    Flood {
        kind: Kind::Authorize,
        first: 0,
        addresses: 50,
        connections: 8,
        rate: 3_750.0,
    },
    Flood {
        kind: Kind::Authorize,
        first: 50,
        addresses: 950,
        connections: 1,
        rate: 3_750.0,
    },
    Flood {
        kind: Kind::Readyz,
        first: 0,
        addresses: 100,
        connections: 1,
        rate: 2_000.0,
    },
    // Each of a guest that was made for it, while its address may make one.
    Flood {
        kind: Kind::Erasures,
        first: 0,
        addresses: 20,
        connections: 8,
        rate: 500.0,
    },
];

/// The rate of authorize, in a second, that must at least be reached.
pub(crate) const AUTHORIZE_AT_LEAST: f64 = 5_000.0;

impl Flood {
    /// Returns the address with that number.
    pub(crate) fn address(&self, number: usize) -> Ipv4Addr {
        address(self.kind.network(), self.first + number)
    }

    pub(crate) fn scaled(self, scale: Scale) -> Self {
        Self {
            addresses: scale.of(self.addresses),
            rate: self.rate * scale.0,
            ..self
        }
    }

    /// Returns the interval between two requests of one connection.
    pub(crate) fn interval(&self) -> Duration {
        let connections = self.addresses * self.connections;
        Duration::from_secs_f64(connections as f64 / self.rate)
    }

    /// Returns how many of its requests the limits by address let pass in so many seconds, at most.
    pub(crate) fn admitted_at_most(&self, seconds: f64) -> f64 {
        let asked = self.rate / self.addresses as f64 * seconds;
        let addresses = self.addresses as f64;
        addresses * asked.min(AT_ONCE + AT_ONCE / REFILLED_IN * seconds).ceil()
    }
}

/// The default of `limits.guests_per_address` and `limits.endings_per_address`: so many at once, and as many more in so many
/// seconds.
const AT_ONCE: f64 = 1000.0;
const REFILLED_IN: f64 = 120.0;

/// Returns an address of a network `127.NETWORK.0.0/16`.
pub(crate) fn address(network: u8, number: usize) -> Ipv4Addr {
    let [.., high, low] = (number + 1).to_be_bytes();
    Ipv4Addr::new(127, network, high, low)
}

/// Returns the descriptors that the attackers need.
pub(crate) fn descriptors(scale: Scale) -> u64 {
    let held = HELD.iter().map(|held| scale.of(held.connections));
    let floods = FLOODS.map(|flood| flood.scaled(scale));
    let flooding = floods.map(|flood| flood.addresses * flood.connections);
    let all: usize = held.sum::<usize>() + flooding.iter().sum::<usize>();
    all as u64 + 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_one_of_loopback_and_of_one_kind() {
        assert_eq!(HELD[2].address(0), Ipv4Addr::new(127, 3, 0, 1));
        assert_eq!(HELD[2].address(9_999), Ipv4Addr::new(127, 3, 0, 50));
        assert_eq!(FLOODS[0].address(49), Ipv4Addr::new(127, 5, 0, 50));
        assert_eq!(FLOODS[1].address(949), Ipv4Addr::new(127, 5, 3, 232));
    }

    #[test]
    fn an_address_gets_what_it_asks_for_up_to_its_limit() {
        // 75 a second, of which it may have 1,000 and 8 1/3 a second.
        assert_eq!(FLOODS[0].admitted_at_most(10.0), 50.0 * 750.0);
        assert_eq!(FLOODS[0].admitted_at_most(300.0), 50.0 * 3_500.0);
        // Fewer than four a second.
        assert_eq!(FLOODS[1].admitted_at_most(300.0), 950.0 * 1_185.0);
    }

    #[test]
    fn all_of_authorize_is_more_than_what_must_be_reached() {
        let authorize = FLOODS.iter().filter(|flood| flood.kind == Kind::Authorize);
        let (addresses, rate) = authorize.fold((0, 0.0), |(addresses, rate), flood| {
            (addresses + flood.addresses, rate + flood.rate)
        });
        assert_eq!(addresses, 1_000);
        assert!(rate >= 1.5 * AUTHORIZE_AT_LEAST);
    }
}
