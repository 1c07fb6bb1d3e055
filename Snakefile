include: "workflow/Snakefile"


# rules of an included file never become the default target
rule default:
    default_target: True
    input:
        rules.all.input,
