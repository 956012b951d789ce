//! Activation: a client asks for the class, and gets a reference to the one object.

use cardea_dcom::Guid;
use cardea_dcom::dcom::ids::hresult::{E_NOINTERFACE, REGDB_E_CLASSNOTREG, S_OK};
use cardea_dcom::dcom::ids::{IID_ACTIVATION, activation, remote_scm_activator};
use cardea_dcom::dcom::{
    ActivatedInterface, ActivationAnswer, ActivationReply, ActivationRequest, ComVersion,
    DualStringArray, InterfacePointer, OrpcThat, RemoteActivation, RemoteActivationReply,
    RemoteCreateInstance, RemoteGetClassObject,
};
use cardea_dcom::ndr::Message;
use cardea_dcom::pdu::{AuthLevel, fault_status};
use cardea_dcom::tpmvsc::{CLSID_LOCAL_MANAGER, CLSID_REMOTE_MANAGER};
use cardea_terms::tpmvsc::Hresult;

use super::{Visit, checked, plain, undecodable};
use cardea_rpc::random::Draws;
use cardea_rpc::rpc::{Answer, Request};

impl Visit {
    pub(super) fn activation(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let answer = match (request.interface.uuid, request.call.opnum) {
            (IID_ACTIVATION, activation::REMOTE_ACTIVATION) => {
                return self.remote_activation(request);
            }
            (IID_ACTIVATION, _) => return Err(fault_status::OPERATION_RANGE),
            (_, remote_scm_activator::REMOTE_CREATE_INSTANCE) => {
                let (call, used) =
                    RemoteCreateInstance::decode(request.stub).map_err(undecodable)?;
                checked(request, used, Some(&call.this))?;
                match (&call.outer, &call.properties) {
                    (None, Some(properties)) => self.create_instance(properties),
                    // Objects are not parts of others.
                    (Some(_), _) => Err(CLASS_E_NOAGGREGATION),
                    (None, None) => Err(Hresult::INVALID_ARGUMENT.0),
                }
            }
            (_, remote_scm_activator::REMOTE_GET_CLASS_OBJECT) => {
                let (call, used) =
                    RemoteGetClassObject::decode(request.stub).map_err(undecodable)?;
                checked(request, used, Some(&call.this))?;
                // There is one object and nothing that makes others.
                Err(E_NOINTERFACE)
            }
            _ => return Err(fault_status::OPERATION_RANGE),
        };
        let (properties, result) = match answer {
            Ok(properties) => (Some(properties), S_OK),
            Err(result) => (None, result),
        };
        let answer = ActivationAnswer {
            that: OrpcThat::default(),
            properties,
            result,
        };
        Ok(plain(answer.encode()))
    }

    fn create_instance(&self, properties: &InterfacePointer) -> Result<InterfacePointer, u32> {
        let asked = ActivationRequest::read(properties).map_err(|_| Hresult::INVALID_ARGUMENT.0)?;
        if asked.is_persistent {
            return Err(Hresult::INVALID_ARGUMENT.0);
        }
        let interfaces = self.activate(&asked.class, &asked.iids)?;
        let version = asked.version.negotiate()?;
        let reply = ActivationReply {
            destination: asked.destination,
            oxid: self.tables().objects.oxid(),
            bindings: self.bindings(true),
            rem_unknown: self.shared.rem_unknown,
            auth_hint: AUTH_HINT,
            version,
            interfaces,
        };
        Ok(reply.to_pointer())
    }

    fn remote_activation(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let (asked, used) = RemoteActivation::decode(request.stub).map_err(undecodable)?;
        checked(request, used, Some(&asked.this))?;
        let activated = match asked.object_name.is_some() || asked.storage.is_some() {
            true => Err(Hresult::INVALID_ARGUMENT.0),
            false => self.activate(&asked.class, &asked.iids),
        };
        let (result, bindings) = match &activated {
            Ok(_) => (S_OK, Some(self.bindings(true))),
            Err(result) => (*result, None),
        };
        let failed = |iid: &Guid| ActivatedInterface {
            iid: *iid,
            result,
            pointer: None,
        };
        let reply = RemoteActivationReply {
            that: OrpcThat::default(),
            oxid: self.tables().objects.oxid(),
            rem_unknown: self.shared.rem_unknown,
            auth_hint: AUTH_HINT,
            version: ComVersion::CURRENT,
            result,
            bindings,
            interfaces: activated.unwrap_or_else(|_| asked.iids.iter().map(failed).collect()),
            status: 0,
        };
        Ok(plain(reply.encode()))
    }

    /// References to the interfaces, at least one of which there must be.
    fn activate(&self, class: &Guid, iids: &[Guid]) -> Result<Vec<ActivatedInterface>, u32> {
        if ![CLSID_REMOTE_MANAGER, CLSID_LOCAL_MANAGER].contains(class) {
            return Err(REGDB_E_CLASSNOTREG);
        }
        let resolver: DualStringArray = self.bindings(false);
        let mut draws = Draws::new(iids.len()).map_err(|_| Hresult::INVALID_ARGUMENT.0)?;
        let tables = &mut *self.tables();
        let manager = tables.manager;
        let mut refer = |iid: &Guid| {
            let objects = &mut tables.objects;
            match objects.objref(manager, iid, &resolver, &mut || draws.guid()) {
                Ok(reference) => ActivatedInterface {
                    iid: *iid,
                    result: S_OK,
                    pointer: Some(InterfacePointer::from(&reference)),
                },
                Err(result) => ActivatedInterface {
                    iid: *iid,
                    result,
                    pointer: None,
                },
            }
        };
        let interfaces: Vec<_> = iids.iter().map(&mut refer).collect();
        match interfaces.iter().any(|one| one.result == S_OK) {
            true => Ok(interfaces),
            false => Err(E_NOINTERFACE),
        }
    }
}

/// The level that clients must authenticate with.
pub(super) const AUTH_HINT: u32 = AuthLevel::Privacy as u32;

const CLASS_E_NOAGGREGATION: u32 = 0x8004_0110;
