//! `boxlite port`

use boxlite::{BoxInfo, Protocol, PublishedPort};
use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::{Failure, Report};
use crate::output;
use crate::value::port::{host_address, parse_guest_port};

/// List the published ports of a box
#[derive(Debug, Args)]
#[command(after_help = "\
    With a port of the box: where it is published. Ports that are picked (host port 0) are \
    known while the box runs.")]
pub(crate) struct PortArgs {
    /// Name or id of the box
    #[arg(value_name = "BOX")]
    name: String,

    /// A port of the box
    #[arg(value_name = "GUEST[/tcp|/udp]", value_parser = parse_guest_port)]
    guest: Option<(u16, Option<Protocol>)>,
}

pub(crate) async fn run(global: &GlobalArgs, args: PortArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    let info = client.get(&args.name).await?.info().await?;
    output::print(&lines(&info.ports, args.guest).ok_or_else(|| not_published(&args, &info))?)?;
    Ok(0)
}

fn lines(ports: &[PublishedPort], guest: Option<(u16, Option<Protocol>)>) -> Option<String> {
    let published = ports.iter().filter(|port| port.host != 0);
    match guest {
        None => Some(
            published
                .map(|port| {
                    format!(
                        "{}/{} -> {}\n",
                        port.guest,
                        port.protocol,
                        host_address(port.host_ip, port.host)
                    )
                })
                .collect(),
        ),
        Some((number, protocol)) => {
            let protocol = protocol.unwrap_or_default();
            let lines: String = published
                .filter(|port| port.guest == number && port.protocol == protocol)
                .map(|port| format!("{}\n", host_address(port.host_ip, port.host)))
                .collect();
            (!lines.is_empty()).then_some(lines)
        }
    }
}

fn not_published(args: &PortArgs, info: &BoxInfo) -> Failure {
    let (number, protocol) = args.guest.unwrap_or_default();
    let protocol = protocol.unwrap_or_default();
    let asked_for = info
        .ports
        .iter()
        .any(|port| port.guest == number && port.protocol == protocol);
    let report = Report::new(format_args!(
        "port {number}/{protocol} of box {} is not published{}",
        args.name,
        if asked_for { " now" } else { "" }
    ));
    if asked_for {
        report.hint(format!("boxlite start {}", args.name)).into()
    } else {
        report.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ports_or_one() {
        let port = |host, guest, protocol| PublishedPort {
            host_ip: "127.0.0.1".parse().unwrap(),
            host,
            guest,
            protocol,
        };
        let ports = [
            port(8080, 80, Protocol::Tcp),
            port(5353, 53, Protocol::Udp),
            port(0, 22, Protocol::Tcp),
        ];
        assert_eq!(
            lines(&ports, None).unwrap(),
            "80/tcp -> 127.0.0.1:8080\n53/udp -> 127.0.0.1:5353\n"
        );
        assert_eq!(lines(&ports, Some((80, None))).unwrap(), "127.0.0.1:8080\n");
        assert_eq!(lines(&ports, Some((53, None))), None);
        assert_eq!(
            lines(&ports, Some((53, Some(Protocol::Udp)))).unwrap(),
            "127.0.0.1:5353\n"
        );
        assert_eq!(lines(&ports, Some((22, None))), None);
    }
}
