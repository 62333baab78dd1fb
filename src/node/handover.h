/* From one daemon to the next on one node: at every moment one of them serves the kubelet.
 *
 * The next one (with --take-over) reads the GPUs and the configuration first, then asks at STATE-DIR/handover.sock. The
 * one before leaves everything but its conversations with the kubelet: it gives up the directories' locks, and goes on
 * to answer at the connections that are open, until it is stopped. The next one binds the sockets and registers, and
 * from then on the kubelet asks it alone.
 *
 * A kubelet takes a resource for dead when the stream of ANY earlier registration ends, also once another one is in
 * force (pkg/kubelet/cm/devicemanager/plugin/v1beta1/handler.go, runClient). So the connections are given along as
 * well, and are kept open, unread, until the kubelet closes them. */
#ifndef GPUSHARE_NODE_HANDOVER_H
#define GPUSHARE_NODE_HANDOVER_H

#include <stdbool.h>

#include "base/error.h"

struct node;

/* --- the next one --- */

/* The locks are another daemon's: waits until it gives them, or is gone; then node_take_charge is called once. */
void handover_wait(struct node *node);
/* The GPUs were read, or it is known that they can't be: the daemon before may go. Safe to call at any time. */
void handover_ready(struct node *node);
/* Whether it may be said that this one is ready: one that can't be taken over from must be stopped first. */
bool handover_needs_predecessor_gone(const struct node *node);

/* Whether the one before may still be answering the kubelet. */
bool handover_has_predecessor(const struct node *node);

/* Whether it still pays to wait with the registration: the one before answers, and this one has just begun. */
bool handover_may_wait(const struct node *node);

/* --- the one before --- */

/* From now on another one may take over. Not being able to offer it is logged, and costs the hand-over. */
void handover_offer(struct node *node);
/* Asked to stop: false when no daemon takes over, and the stop is an ordinary one. Else the daemon ends once the next
 * one is ready. */
bool handover_leave(struct node *node);

/* Frees all, whichever of the two it is. */
void handover_free(struct node *node);

#endif
