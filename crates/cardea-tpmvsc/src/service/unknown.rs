//! IRemUnknown and IRemUnknown2: other interfaces of the object, and reference counts.

use cardea_dcom::dcom::ids::{IID_REM_UNKNOWN2, rem_unknown};
use cardea_dcom::dcom::{RemQueryInterface, RemQueryInterface2, RemRefs};
use cardea_dcom::ndr::Message;
use cardea_dcom::pdu::fault_status;

use super::{Visit, checked, plain, undecodable};
use cardea_rpc::random::Draws;
use cardea_rpc::rpc::{Answer, Request};

impl Visit {
    pub(super) fn rem_unknown(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let stub = match request.call.opnum {
            rem_unknown::REM_QUERY_INTERFACE => {
                let (query, used) = RemQueryInterface::decode(request.stub).map_err(undecodable)?;
                checked(request, used, Some(&query.this))?;
                let mut draws = draws(query.iids.len())?;
                let objects = &mut self.tables().objects;
                objects.query(&query, &mut || draws.guid()).encode()
            }
            rem_unknown::REM_QUERY_INTERFACE2 if request.interface.uuid == IID_REM_UNKNOWN2 => {
                let (query, used) =
                    RemQueryInterface2::decode(request.stub).map_err(undecodable)?;
                checked(request, used, Some(&query.this))?;
                let mut draws = draws(query.iids.len())?;
                let resolver = self.bindings(false);
                let objects = &mut self.tables().objects;
                objects
                    .query2(&query, &resolver, &mut || draws.guid())
                    .encode()
            }
            rem_unknown::REM_ADD_REF => {
                let refs = refs(request)?;
                self.tables().objects.add_refs(&refs).encode()
            }
            rem_unknown::REM_RELEASE => {
                let refs = refs(request)?;
                // The one object stays, whoever releases it.
                let (result, _gone) = self.tables().objects.release(&refs);
                result.encode()
            }
            _ => return Err(fault_status::OPERATION_RANGE),
        };
        Ok(plain(stub))
    }
}

fn refs(request: &Request<'_>) -> Result<RemRefs, u32> {
    let (refs, used) = RemRefs::decode(request.stub).map_err(undecodable)?;
    checked(request, used, Some(&refs.this))?;
    Ok(refs)
}

fn draws(count: usize) -> Result<Draws, u32> {
    Draws::new(count).map_err(|_| fault_status::PROTOCOL_ERROR)
}
