//! Volumes of a pod.

use k8s_openapi::api::core::v1::Volume;

use super::super::{Injection, Reason};
use super::{Checked, refuse_if};
use crate::objects::names;
use crate::text::quoted;

/// A volume by one of the sidecar's names is the sidecar's; any other stays within the pod.
pub(super) fn check(path: &str, volume: &Volume, injection: &Injection) -> Checked {
    if let Some(ours) = injection.volumes.iter().find(|ours| ours.name == volume.name) {
        return refuse_if(
            ours != volume,
            Reason::ReservedVolume,
            path,
            &format!("volume {} belongs to the sidecar, and this is another one; rename it", quoted(&volume.name)),
        );
    }
    refuse_if(
        reaches_past_the_pod(volume),
        Reason::Volume,
        path,
        "volumes of this kind reach the node or the network past the gateway; use a PersistentVolumeClaim, emptyDir, \
         configMap, secret, downwardAPI, projected, csi or ephemeral volume",
    )?;
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    refuse_if(
        tokens.any(|token| token.audience.as_deref() == Some(names::AUDIENCE)),
        Reason::TokenAudience,
        path,
        &format!("a token for {} would speak for the sidecar; remove it", names::AUDIENCE),
    )
}

/// Whether a volume is mounted by the node from somewhere else. Every kind is named, so that a new one
/// must be judged here.
fn reaches_past_the_pod(volume: &Volume) -> bool {
    let Volume {
        name: _,
        config_map: _,
        csi: _,
        downward_api: _,
        empty_dir: _,
        ephemeral: _,
        image: _,
        persistent_volume_claim: _,
        projected: _,
        secret: _,
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        git_repo,
        glusterfs,
        host_path,
        iscsi,
        nfs,
        photon_persistent_disk,
        portworx_volume,
        quobyte,
        rbd,
        scale_io,
        storageos,
        vsphere_volume,
    } = volume;
    host_path.is_some()
        || nfs.is_some()
        || iscsi.is_some()
        || git_repo.is_some()
        || aws_elastic_block_store.is_some()
        || azure_disk.is_some()
        || azure_file.is_some()
        || cephfs.is_some()
        || cinder.is_some()
        || fc.is_some()
        || flex_volume.is_some()
        || flocker.is_some()
        || gce_persistent_disk.is_some()
        || glusterfs.is_some()
        || photon_persistent_disk.is_some()
        || portworx_volume.is_some()
        || quobyte.is_some()
        || rbd.is_some()
        || scale_io.is_some()
        || storageos.is_some()
        || vsphere_volume.is_some()
}
