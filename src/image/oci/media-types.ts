/** Types of what images are made of (image-spec 1.1, media-types.md), and Docker's names for the same. */

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';

export const INDEXES: readonly string[] = [OCI_INDEX, DOCKER_LIST];
export const MANIFESTS: readonly string[] = [OCI_MANIFEST, DOCKER_MANIFEST];
export const CONFIGS: readonly string[] = [OCI_CONFIG, 'application/vnd.docker.container.image.v1+json'];
export const LAYER =
  /^application\/vnd\.(oci\.image\.layer\.v1\.tar(\+gzip|\+zstd)?|docker\.image\.rootfs\.diff\.tar(\.gzip|\.zstd)?)$/;
