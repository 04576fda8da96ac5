/* mark.h: what the module says of a secret key that SoftHSM holds. SoftHSM's object is readable, and of a type that SoftHSM has;
 * its CKA_ID begins with a mark, which keeps what the key's maker asked for:
 *
 *	"PKMARK01" | type (8) | sensitive | extractable | always sensitive | never extractable | the maker's own CKA_ID
 *
 * So the keys are found again by every process that opens the token, and there is no second store to keep in step. */
#ifndef PK_MARK_H
#define PK_MARK_H

#include "functions.h"
#include "vendor.h"

struct mark {
	CK_BYTE magic[8];
	CK_ULONG type;
	CK_BBOOL sensitive;
	CK_BBOOL extractable;
	CK_BBOOL always_sensitive;
	CK_BBOOL never_extractable;
};

enum { MARK_SIZE = 20, ID_MAX = 256, TEMPLATE_MAX = 40 };

/* translation is a template as SoftHSM gets it, and the memory that its attributes point to. */
struct translation {
	struct mark mark;
	CK_ATTRIBUTE attributes[TEMPLATE_MAX];
	CK_ULONG count;
	CK_ULONG type;        /* SoftHSM's */
	CK_ULONG value_len;   /* as asked for, or that of the type; 0 for neither */
	CK_BYTE id[ID_MAX];
};

/* marks reports whether a template makes a key that is marked: a secret key of SM4, DES2, DES3 or no type of its own. */
bool marks(const CK_ATTRIBUTE *template, CK_ULONG count);

/* translate fills a translation of a template that marks, for a key that is made with its value, or derived without. */
CK_RV translate(struct translation *t, const CK_ATTRIBUTE *template, CK_ULONG count);

/* translate_value adds the value of the key, and takes out the length where the template has one. */
CK_RV translate_value(struct translation *t, const CK_BYTE *value, CK_ULONG len);

/* translate_done adds the mark itself, when all of it is known. */
void translate_done(struct translation *t);

/* is_marked reads an object's mark. *found is false of what has none, and of what is no key; an object that is not there is the
 * real module's error. */
CK_RV is_marked(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_ULONG object, struct mark *mark, bool *found);

/* translated reports whether the module, and not SoftHSM, answers for the attribute of a marked key. */
bool translated(CK_ULONG attribute);

/* key is a marked key as the cryptography needs it. */
struct key {
	struct mark mark;
	CK_BYTE value[VALUE_MAX];
	CK_ULONG len;
};

/* key_read reads a marked key that has the right, CKA_DERIVE or CKA_ENCRYPT. */
CK_RV key_read(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_ULONG object, CK_ULONG right, struct key *key);

/* key_value reads its value, whatever is said of it. */
CK_RV key_value(const CK_FUNCTION_LIST *real, CK_SESSION_HANDLE session, CK_ULONG object, struct key *key);

#endif
