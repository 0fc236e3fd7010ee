/* What instructions an emulated aarch64 program runs, counted by kind: a plugin of qemu's user emulation (API 1).
 *
 *     cc -shared -fPIC -O2 count_instructions.c -o count.so
 *     qemu-aarch64 -plugin ./count.so,out=counts.json ...
 *
 * Each translated block adds what it holds to the counts whenever it runs. Encodings are of the Arm Architecture
 * Reference Manual for A-profile, "Advanced SIMD": mask and value of a 32-bit instruction. Debian's qemu-user brings
 * neither plugins nor their header, so what is used of qemu-plugin.h (docs/devel/tcg-plugins.rst) is declared here. */

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t plugin_id;
enum { INLINE_ADD_U64 = 0 };
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
extern void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum kind { ALL, SIMD, DOT, MATRIX, WIDENING, FLOAT, KINDS };
static const char *const names[KINDS] = {"all", "simd", "dot_product", "i8mm", "widening_multiply", "float_multiply_add"};

static const struct {
    uint32_t mask, value;
    enum kind kind;
} encodings[] = {
    {0x9fe0fc00, 0x0e809400, DOT},      /* SDOT, UDOT (vector) */
    {0x9fc0f400, 0x0f80e000, DOT},      /* SDOT, UDOT (by element) */
    {0xbfe0fc00, 0x0e809c00, DOT},      /* USDOT (vector) */
    {0xbf40f400, 0x0f00f000, DOT},      /* SUDOT, USDOT (by element) */
    {0xdfe0fc00, 0x4e80a400, MATRIX},   /* SMMLA, UMMLA */
    {0xffe0fc00, 0x4e80ac00, MATRIX},   /* USMMLA */
    {0x9f20fc00, 0x0e208000, WIDENING}, /* SMLAL, UMLAL (vector) */
    {0x9f20fc00, 0x0e20c000, WIDENING}, /* SMULL, UMULL (vector) */
    {0x9f00f400, 0x0f002000, WIDENING}, /* SMLAL, UMLAL (by element) */
    {0x9f00f400, 0x0f00a000, WIDENING}, /* SMULL, UMULL (by element) */
    {0xbfa0fc00, 0x0e20cc00, FLOAT},    /* FMLA (vector, single and double) */
    {0xbf80f400, 0x0f801000, FLOAT},    /* FMLA (by element, single and double) */
};

static uint64_t counts[KINDS];
static char path[4096];

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
    uint64_t held[KINDS] = {0};
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        uint32_t code;
        memcpy(&code, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof code);
        held[ALL]++;
        held[SIMD] += (code >> 25 & 7) == 7; /* "Data Processing -- Scalar Floating-Point and Advanced SIMD" */
        for (size_t e = 0; e < sizeof encodings / sizeof *encodings; e++)
            held[encodings[e].kind] += (code & encodings[e].mask) == encodings[e].value;
    }
    for (int kind = 0; kind < KINDS; kind++)
        if (held[kind]) qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &counts[kind], held[kind]);
}

static void ended(plugin_id id, void *unused) {
    FILE *file = fopen(path, "w");
    (void)id, (void)unused;
    if (!file) return;
    for (int kind = 0; kind < KINDS; kind++)
        fprintf(file, "%s\"%s\": %" PRIu64, kind ? ", " : "{", names[kind], counts[kind]);
    fputs("}\n", file);
    fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) || strlen(argv[0]) >= sizeof path) {
        fputs("count_instructions: expected out=FILE\n", stderr);
        return 1;
    }
    strcpy(path, argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
