/* cryptoki.h: as much of the PKCS#11 v2.40 interface as a forwarding module needs. Pointers to structures that are only
 * passed on are void *: on the platforms of this project every object pointer is passed alike. */
#ifndef PK_CRYPTOKI_H
#define PK_CRYPTOKI_H

typedef unsigned char CK_BYTE;
typedef unsigned char CK_BBOOL;
typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;
typedef CK_ULONG CK_SLOT_ID;
typedef CK_ULONG CK_SESSION_HANDLE;

typedef struct {
	CK_BYTE major;
	CK_BYTE minor;
} CK_VERSION;

typedef struct {
	CK_BYTE slot_description[64];
	CK_BYTE manufacturer_id[32];
	CK_ULONG flags;
	CK_VERSION hardware_version;
	CK_VERSION firmware_version;
} CK_SLOT_INFO;

#define CKF_TOKEN_PRESENT 0x00000001UL

#define CKR_OK 0x00000000UL
#define CKR_GENERAL_ERROR 0x00000005UL
#define CKR_ARGUMENTS_BAD 0x00000007UL
#define CKR_DEVICE_REMOVED 0x00000032UL
#define CKR_PIN_INCORRECT 0x000000A0UL
#define CKR_PIN_INVALID 0x000000A1UL
#define CKR_PIN_LEN_RANGE 0x000000A2UL
#define CKR_PIN_LOCKED 0x000000A4UL
#define CKR_SESSION_HANDLE_INVALID 0x000000B3UL
#define CKR_TOKEN_NOT_PRESENT 0x000000E0UL
#define CKR_CRYPTOKI_NOT_INITIALIZED 0x00000190UL

#endif
