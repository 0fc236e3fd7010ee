"""How often a classifier is right on labelled pictures, and how sure one may be of that (extra: eval).

    score       logits of labelled pictures: through a bundle's pipeline, or as a RUN stored them
    report      logits against labels -> one dictionary, the report; the core that everything else feeds or draws
      metrics     accuracy, AUROC, F1, … each as a value (scikit-learn) and as a function of resampled groups
      calibration reliability bins, expected calibration error, Brier score, likelihood
      subsets     by origin, and within one age group
      coverage    what silence is worth: what is answered, how often that is right, risk against coverage
      operating   thresholds that reach a stated sensitivity, and which of them don't elsewhere
      bootstrap   95 % intervals over groups of pictures; `intervals` has the arithmetic
    paired      two models on the same films
    silence     outliers scored by int8 and fp32; `turned_away` counts them by kind, and films by source
    acceptance  requirements on figures, judged by the bounds of their intervals
    site        what a site's films can claim, and the fits of it
    plots, page the report, drawn; as a page without films
    temperature the one number that makes confidences honest, fitted on dev logits (numpy only)
    biases      what a fit says too often of one class and too seldom of another, on dev logits

Nothing is imported here: `edgecxr.lab.evaluation.temperature` needs numpy only.
"""
