//! Tells where a request comes from, as far as one customer of a network provider can be told from the next.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address, or the /64 of an IPv6 address, within which a customer chooses addresses freely.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Source(IpAddr);

/// The /48 of an IPv6 address: the most that a customer of an ordinary provider has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Neighbourhood(Ipv6Addr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(network(address, 64)),
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl Source {
    /// Returns the wider network. Of an IPv4 address there is none that belongs to one customer.
    #[must_use]
    pub fn neighbourhood(self) -> Option<Neighbourhood> {
        match self.0 {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(Neighbourhood(network(address, 48))),
        }
    }
}

fn network(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    Ipv6Addr::from(address.to_bits() & (u128::MAX << (128 - bits)))
}
