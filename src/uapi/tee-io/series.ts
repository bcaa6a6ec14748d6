/** A posted series: where the numbers of one namespace of `teeIo` come from. */
export interface Series {
  readonly title: string;
  readonly author: string;
  /** When it was posted, as precisely as is known. */
  readonly date: string;
  /** Of the cover letter, or of the mail that has it. Absent where it is not known. */
  readonly messageId?: string;
  /** What became of it. */
  readonly status: string;
  /** Nobody of this project has read the posting: the numbers come from another project's bindings or notes. */
  readonly secondary?: true;
}

/** The namespaces of `teeIo`. */
export type SeriesName =
  | 'kvmVfio2013'
  | 'guestMemfdV12'
  | 'guestMemfdV13'
  | 'aikV1'
  | 'userfault'
  | 'xuJan25'
  | 'aikV2'
  | 'xuFeb25'
  | 'xuMay25'
  | 'aneeshMay25'
  | 'aneeshV1'
  | 'attributes2'
  | 'noiommu'
  | 'aikGuest'
  | 'aneeshV2'
  | 'ccaV3'
  | 'ccaV4'
  | 'aneeshV4'
  | 'aneeshV5'
  | 'aneeshJun26'
  | 'aneeshV7';

/** The series behind each namespace of `teeIo`, in order of posting. */
export const SERIES: Readonly<Record<SeriesName, Series>> = {
  kvmVfio2013: {
    title: 'KVM-VFIO pseudo device',
    author: 'A. Williamson',
    date: '2013-09-12',
    status: 'merged in 3.13 in another form: a group with attributes',
  },
  guestMemfdV12: {
    title: 'KVM: guest_memfd() and per-page attributes, RFC v12',
    author: 'S. Christopherson, C. Peng et al.',
    date: '2023-09-14',
    messageId: '20230914015531.1419405-1-seanjc@google.com',
    status: 'superseded by v13',
  },
  guestMemfdV13: {
    title: 'KVM: guest_memfd() and per-page attributes, v13',
    author: 'S. Christopherson, C. Peng et al.',
    date: '2023-10-27',
    status: 'merged in 6.8 by way of v14, with capability numbers one higher',
  },
  aikV1: {
    title: 'Secure VFIO, TDISP, SEV TIO, RFC v1',
    author: 'A. Kardashevskiy',
    date: '2024-08-23',
    messageId: '20240823132137.336874-1-aik@amd.com',
    status: 'superseded by v2',
  },
  userfault: {
    title: 'KVM userfault, RFC',
    author: 'J. Houghton',
    date: '2024',
    status: 'not merged',
  },
  xuJan25: {
    title: 'Private MMIO support for private assigned dev, RFC',
    author: 'Xu Yilun',
    date: '2025-01-07',
    messageId: '20250107142719.179636-1-yilun.xu@linux.intel.com',
    status: 'superseded by the series of May 2025, which drops both private flags',
  },
  aikV2: {
    title: 'TSM: Secure VFIO, TDISP, SEV TIO, RFC v2',
    author: 'A. Kardashevskiy',
    date: '2025-02-18',
    messageId: '20250218111017.491719-1-aik@amd.com',
    status: 'its user interface is superseded by that of iommufd',
  },
  xuFeb25: {
    title: 'VFIO bind, proposed in the thread of SEV TIO v2',
    author: 'Xu Yilun',
    date: '2025-02-26',
    status: 'a sketch; became the series of May 2025',
  },
  xuMay25: {
    title: 'Host side (KVM/VFIO/IOMMUFD) support for TDISP using TSM, RFC',
    author: 'Xu Yilun',
    date: '2025-05-29',
    messageId: '20250529053513.1592088-1-yilun.xu@linux.intel.com',
    status: 'not posted again; bind has moved to iommufd',
  },
  aneeshMay25: {
    title: 'iommufd: tsm bind and unbind ioctls, RFC',
    author: 'Aneesh Kumar K.V',
    date: '2025-05-29',
    messageId: '20250529133757.462088-3-aneesh.kumar@kernel.org',
    status: 'superseded by ARM CCA device assignment v1',
  },
  aneeshV1: {
    title: 'ARM CCA Device Assignment support, RFC v1',
    author: 'Aneesh Kumar K.V',
    date: '2025-07-28',
    messageId: '20250728135216.48084-1-aneesh.kumar@kernel.org',
    status: 'split into the iommufd and the CCA series',
  },
  attributes2: {
    title: 'KVM_SET_MEMORY_ATTRIBUTES2, RFC',
    author: 'not recorded',
    date: '2026',
    status: 'not merged',
    secondary: true,
  },
  noiommu: {
    title: 'IOMMU_IOAS_NOIOMMU_GET_PA',
    author: 'not recorded',
    date: '2026',
    status: 'seen in a set of headers newer than 7.2',
    secondary: true,
  },
  aikGuest: {
    title: 'SEV-TIO, guest side',
    author: 'A. Kardashevskiy',
    date: '2026-02-25',
    messageId: '20260225053806.3311234-1-aik@amd.com',
    status: 'RFC; an interface between guest and host only',
  },
  aneeshV2: {
    title: 'iommufd: TSM, v2',
    author: 'Aneesh Kumar K.V',
    date: '2026-03-09',
    messageId: '20260309111704.2330479-1-aneesh.kumar@kernel.org',
    status: 'superseded by v4; v3 was never posted',
  },
  ccaV3: {
    title: 'CCA TDISP host series, RFC v3',
    author: 'Aneesh Kumar K.V',
    date: '2026-03-12',
    status: 'superseded by v4',
  },
  ccaV4: {
    title: 'CCA TDISP host series, RFC v4',
    author: 'Aneesh Kumar K.V',
    date: '2026-04-27',
    status: 'RFC',
  },
  aneeshV4: {
    title: 'iommufd: TSM, v4',
    author: 'Aneesh Kumar K.V',
    date: '2026-04-27',
    messageId: '20260427061005.901854-1-aneesh.kumar@kernel.org',
    status: 'superseded by v5',
  },
  aneeshV5: {
    title: 'iommufd: TSM, v5',
    author: 'Aneesh Kumar K.V',
    date: '2026-05-25',
    messageId: '20260525154816.1029642-1-aneesh.kumar@kernel.org',
    status: 'superseded by v7',
  },
  aneeshJun26: {
    title: 'revised request struct, in the thread of iommufd: TSM v5',
    author: 'Aneesh Kumar K.V',
    date: '2026-06-02',
    status: 'went into v6 and v7',
  },
  aneeshV7: {
    title: 'iommufd: vIOMMUs and TSM guest requests for confidential guests, v7',
    author: 'Aneesh Kumar K.V',
    date: '2026-10-08',
    messageId: '20261008055955.4014342-1-aneesh.kumar@kernel.org',
    status: 'the newest; it has no IOMMU_VDEVICE_TSM_OP any more',
    secondary: true,
  },
};
