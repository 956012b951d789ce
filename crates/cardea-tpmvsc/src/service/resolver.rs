//! IObjectExporter: where the objects are, and pings.

use cardea_dcom::dcom::ids::{object_exporter, resolver_status};
use cardea_dcom::dcom::{
    ComVersion, ComplexPing, ResolveOxid, ResolveOxid2Reply, ResolveOxidReply, ServerAlive2Reply,
    SimplePing, Status,
};
use cardea_dcom::ndr::Message;
use cardea_dcom::pdu::fault_status;

use super::{Visit, checked, plain, undecodable};
use cardea_rpc::random::Draws;
use cardea_rpc::rpc::{Answer, Request};

impl Visit {
    pub(super) fn resolver(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let opnum = request.call.opnum;
        if ![
            object_exporter::SERVER_ALIVE,
            object_exporter::SERVER_ALIVE2,
        ]
        .contains(&opnum)
            && request.caller.is_none()
        {
            return Err(fault_status::ACCESS_DENIED);
        }
        let stub = match opnum {
            object_exporter::RESOLVE_OXID => self.resolve(request)?.encode(),
            object_exporter::RESOLVE_OXID2 => {
                let resolved = self.resolve(request)?;
                ResolveOxid2Reply {
                    bindings: resolved.bindings,
                    rem_unknown: resolved.rem_unknown,
                    auth_hint: resolved.auth_hint,
                    version: ComVersion::CURRENT,
                    status: resolved.status,
                }
                .encode()
            }
            object_exporter::SERVER_ALIVE => Status {
                status: resolver_status::OK,
            }
            .encode(),
            object_exporter::SERVER_ALIVE2 => ServerAlive2Reply {
                version: ComVersion::CURRENT,
                bindings: Some(self.bindings(false)),
                status: resolver_status::OK,
            }
            .encode(),
            object_exporter::SIMPLE_PING => {
                let (ping, used) = SimplePing::decode(request.stub).map_err(undecodable)?;
                checked(request, used, None)?;
                self.tables().pings.simple_ping(&ping, self.now()).encode()
            }
            object_exporter::COMPLEX_PING => self.complex_ping(request)?,
            _ => return Err(fault_status::OPERATION_RANGE),
        };
        Ok(plain(stub))
    }

    fn resolve(&self, request: &Request<'_>) -> Result<ResolveOxidReply, u32> {
        let (resolve, used) = ResolveOxid::decode(request.stub).map_err(undecodable)?;
        checked(request, used, None)?;
        let is_known = resolve.oxid == self.tables().objects.oxid();
        Ok(match is_known {
            true => ResolveOxidReply {
                bindings: Some(self.bindings(true)),
                rem_unknown: self.shared.rem_unknown,
                auth_hint: super::activation::AUTH_HINT,
                status: resolver_status::OK,
            },
            false => ResolveOxidReply {
                bindings: None,
                rem_unknown: cardea_dcom::Guid::NIL,
                auth_hint: 0,
                status: resolver_status::INVALID_OXID,
            },
        })
    }

    fn complex_ping(&self, request: &Request<'_>) -> Result<zeroize::Zeroizing<Vec<u8>>, u32> {
        let (ping, used) = ComplexPing::decode(request.stub).map_err(undecodable)?;
        checked(request, used, None)?;
        let mut draws = Draws::new(8).map_err(|_| fault_status::PROTOCOL_ERROR)?;
        let now = self.now();
        let tables = &mut *self.tables();
        // The one object does not depend on pings: sets that are silent are only dropped.
        tables.pings.expire(now);
        let objects = &tables.objects;
        let reply = tables
            .pings
            .complex_ping(&ping, now, &mut || draws.number(), |oid| objects.has(oid));
        Ok(reply.encode())
    }
}
