/** RFC: SEV-TIO, the guest's side (`SERIES.aikGuest`): what a guest asks of its host through the GHCB. */

/** RFC, SEV-TIO guest: GHCB exit code. */
export const SVM_VMGEXIT_SEV_TIO_GUEST_REQUEST = 0x80000020;
/** RFC, SEV-TIO guest: GHCB exit code; `sw_exit_info_1` is the action in bits 63:32 over the guest's id of the device. */
export const SVM_VMGEXIT_SEV_TIO_OP = 0x80000021;
/** RFC, SEV-TIO guest: action of SVM_VMGEXIT_SEV_TIO_OP. */
export const SVM_VMGEXIT_SEV_TIO_OP_BIND = 0;
/** RFC, SEV-TIO guest: action of SVM_VMGEXIT_SEV_TIO_OP. */
export const SVM_VMGEXIT_SEV_TIO_OP_UNBIND = 1;
/** RFC, SEV-TIO guest: action of SVM_VMGEXIT_SEV_TIO_OP. */
export const SVM_VMGEXIT_SEV_TIO_OP_RUN = 2;
/** RFC, SEV-TIO guest: action of SVM_VMGEXIT_SEV_TIO_OP. */
export const SVM_VMGEXIT_SEV_TIO_OP_STOP = 3;
