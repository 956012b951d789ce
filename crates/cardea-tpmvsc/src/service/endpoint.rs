//! The endpoint mapper, for tools that look for interfaces: all of them are where the question came in.

use std::net::{IpAddr, Ipv4Addr};

use cardea_dcom::dcom::{
    ENDPOINT_MAPPER, EPT_MAP, EPT_S_NOT_REGISTERED, MapEndpoint, MapEndpointReply, Tower,
};
use cardea_dcom::ndr::Message;
use cardea_dcom::pdu::{SyntaxId, fault_status};
use cardea_rpc::rpc::{Answer, Request, Services};

use super::{Visit, checked, plain, undecodable};

impl Visit {
    pub(super) fn endpoint(&self, request: &Request<'_>) -> Result<Answer, u32> {
        if request.call.opnum != EPT_MAP {
            return Err(fault_status::OPERATION_RANGE);
        }
        let (asked, used) = MapEndpoint::decode(request.stub).map_err(undecodable)?;
        checked(request, used, None)?;
        let tower = asked.tower.as_deref().and_then(Tower::parse);
        let found = tower.filter(|tower| {
            tower.transfer == SyntaxId::NDR
                && tower.interface != ENDPOINT_MAPPER
                && self.serves(&tower.interface)
        });
        let is_known = found.is_some();
        let there = found.map(|tower| Tower {
            port: self.local.port(),
            address: match self.local.ip() {
                IpAddr::V4(address) => address,
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            },
            ..tower
        });
        let reply = MapEndpointReply {
            handle: [0; 20],
            max_towers: asked.max_towers,
            towers: match asked.max_towers {
                0 => Vec::new(),
                _ => there.iter().map(Tower::to_bytes).collect(),
            },
            status: if is_known { 0 } else { EPT_S_NOT_REGISTERED },
        };
        Ok(plain(reply.encode()))
    }
}
