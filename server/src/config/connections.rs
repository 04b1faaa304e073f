//! The settings of connections.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::values::{ConfigError, SECOND, Values};
use crate::listen;

/// The networks of the proxies that are believed. Clones share them, so that a running server can take over others.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<RwLock<Vec<IpNet>>>);

impl TrustedProxies {
    /// Tells whether the address is that of a trusted proxy.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks()
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Takes over the networks of another, for all clones.
    pub fn replace(&self, other: &Self) {
        let others = other.networks().clone();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = others;
    }

    fn networks(&self) -> RwLockReadGuard<'_, Vec<IpNet>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let networks = text
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty());
        networks
            .map(|text| {
                text.parse()
                    .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                    .map(canonical)
                    // Its text isn't repeated: it may be a URL with a password.
                    .map_err(|_| {
                        "one of them is no network. Write addresses or networks, separated by commas, for example \
                         10.0.0.0/8,2001:db8::/32"
                            .to_owned()
                    })
            })
            .collect::<Result<_, _>>()
            .map(|networks| Self(Arc::new(RwLock::new(networks))))
    }
}

/// Returns the network of IPv4 that is written as one of IPv6, as addresses are compared.
fn canonical(network: IpNet) -> IpNet {
    let IpAddr::V4(address) = network.addr().to_canonical() else {
        return network;
    };
    let bits = match network {
        IpNet::V4(_) => network.prefix_len(),
        IpNet::V6(_) => network.prefix_len().saturating_sub(96),
    };
    Ipv4Net::new(address, bits).map_or(network, IpNet::V4)
}

/// Parses the settings of the public listener, but for its certificate.
pub(super) fn connections(values: &Values) -> Result<listen::Settings, ConfigError> {
    Ok(listen::Settings {
        tls: None,
        keep_alive: values.duration("keep_alive", SECOND..=HOUR)?,
        per_address: values.one("connections_per_address", |text| match text {
            "off" => Ok(None),
            _ => match text.parse() {
                Ok(0) | Err(_) => Err("write how many, for example 256, or off".to_owned()),
                Ok(count) => Ok(Some(count)),
            },
        })?,
        max_connections: listen::MAX_CONNECTIONS,
        trusted_proxies: values.one("trusted_proxies", str::parse)?,
        drain_delay: values.duration("drain.delay", Duration::ZERO..=60 * SECOND)?,
    })
}

const HOUR: Duration = Duration::from_secs(3600);
