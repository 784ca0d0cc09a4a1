/* Inside kedgectl only: passwords from a person, from a pipe, or made up. */
#ifndef KG_CONTROL_PASSWORD_H
#define KG_CONTROL_PASSWORD_H

#define KG_PASSWORD_MAX 256 /* with NUL */

/* Each returns 0, or an errno after saying on stderr what is wrong. */
int kg_password_generate(char out[static KG_PASSWORD_MAX]);
int kg_password_from_stdin(char out[static KG_PASSWORD_MAX]);            /* its first line */
int kg_password_ask(const char *name, char out[static KG_PASSWORD_MAX]); /* twice, without echo */

#endif
