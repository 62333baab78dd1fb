/* A container edit as the device plugin's Allocate answers it. Written as bytes at once: a message's structs would cost an
 * Allocate more than all that it decides. */
#ifndef GPUSHARE_KUBE_EDIT_MESSAGE_H
#define GPUSHARE_KUBE_EDIT_MESSAGE_H

#include "base/strbuf.h"
#include "core/share/container_edit.h"

/* Appends the edit to an AllocateResponse (v1beta1), as one more of its container_responses. */
void kube_add_edit(struct gs_strbuf *response, const struct gs_container_edit *edit);

#endif
