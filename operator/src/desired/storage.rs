//! The folder in which a pod keeps model files.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSetPersistentVolumeClaimRetentionPolicy;
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec, Volume, VolumeMount,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::meta::Part;
use super::pod::Mount;
use crate::cluster::{Cluster, Storage};

const VOLUME: &str = "model";
const FOLDER: &str = "/var/lib/shardcluster";
/// Below the volume's root, which may hold things of the file system's.
pub(super) const SHARDS_DIR: &str = "/var/lib/shardcluster/shards";

/// What a StatefulSet needs for one folder.
pub(super) struct Folder {
    pub(super) mount: Mount,
    pub(super) claims: Option<Vec<PersistentVolumeClaim>>,
    pub(super) retention: Option<StatefulSetPersistentVolumeClaimRetentionPolicy>,
}

pub(super) fn folder(cluster: &Cluster, part: Part, storage: &Storage) -> Folder {
    let mount = VolumeMount { name: VOLUME.into(), mount_path: FOLDER.into(), ..VolumeMount::default() };
    match storage {
        Storage::EmptyDir { size } => {
            let volume = Volume {
                name: VOLUME.into(),
                empty_dir: Some(EmptyDirVolumeSource {
                    size_limit: Some(size.clone()),
                    ..EmptyDirVolumeSource::default()
                }),
                ..Volume::default()
            };
            Folder { mount: Mount { volume: Some(volume), mount }, claims: None, retention: None }
        }
        Storage::Claim { size, class, retention } => {
            let claim = PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(VOLUME.into()),
                    labels: Some(part.labels(cluster)),
                    ..ObjectMeta::default()
                },
                spec: Some(PersistentVolumeClaimSpec {
                    access_modes: Some(vec!["ReadWriteOnce".into()]),
                    storage_class_name: class.clone(),
                    resources: Some(VolumeResourceRequirements {
                        requests: Some(BTreeMap::from([("storage".into(), size.clone())])),
                        ..VolumeResourceRequirements::default()
                    }),
                    ..PersistentVolumeClaimSpec::default()
                }),
                ..PersistentVolumeClaim::default()
            };
            Folder {
                mount: Mount { volume: None, mount },
                claims: Some(vec![claim]),
                retention: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some(retention.when_deleted.word().into()),
                    when_scaled: Some(retention.when_scaled.word().into()),
                }),
            }
        }
    }
}
