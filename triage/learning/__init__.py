"""Learns concepts from moderators' verdicts, and says how sure it is.

``labels`` settles contradicting verdicts, ``heads`` fits them, ``comparison`` decides whether a new
head goes live, ``guarantee`` turns a wanted miss rate into a threshold, ``audit`` estimates the
miss rate that is really there. Arrays in, plain data out. scikit-learn, scipy and matplotlib are
imported by what fits or measures, never by what applies a head.
"""
