// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// A PKCS #11 module that passes everything on to another, REAL, and reads before what reaches the token what trouble
// there is: from the file TROUBLE, "MILLISECONDS fine" or "MILLISECONDS away".

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CK_PTR *
#define CK_DECLARE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION_POINTER(type, name) type(*name)
#define CK_CALLBACK_FUNCTION(type, name) type(*name)
#ifndef NULL_PTR
#define NULL_PTR 0
#endif
#include "pkcs11.h"

static CK_FUNCTION_LIST ours;
static CK_FUNCTION_LIST_PTR theirs;

static int away(void)
{
	int delay = 0;
	char state[8] = "fine";
	FILE *f = fopen(TROUBLE, "r");
	if (f != NULL) {
		if (fscanf(f, "%d %7s", &delay, state) != 2)
			delay = 0;
		fclose(f);
	}
	if (delay > 0)
		usleep(delay * 1000);
	return strcmp(state, "away") == 0;
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR app, CK_NOTIFY notify, CK_SESSION_HANDLE_PTR session)
{
	return away() ? CKR_TOKEN_NOT_PRESENT : theirs->C_OpenSession(slot, flags, app, notify, session);
}

static CK_RV find(CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR template, CK_ULONG count)
{
	return away() ? CKR_DEVICE_REMOVED : theirs->C_FindObjectsInit(session, template, count);
}

static CK_RV sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature, CK_ULONG_PTR room)
{
	return away() ? CKR_DEVICE_REMOVED : theirs->C_Sign(session, data, length, signature, room);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
	CK_RV (*get)(CK_FUNCTION_LIST_PTR_PTR);
	void *library = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
	if (library == NULL)
		return CKR_GENERAL_ERROR;
	*(void **)(&get) = dlsym(library, "C_GetFunctionList");
	if (get == NULL || get(&theirs) != CKR_OK)
		return CKR_GENERAL_ERROR;
	ours = *theirs;
	ours.C_OpenSession = open_session;
	ours.C_FindObjectsInit = find;
	ours.C_Sign = sign;
	*list = &ours;
	return CKR_OK;
}
